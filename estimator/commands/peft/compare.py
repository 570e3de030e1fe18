"""Every PEFT method side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimator.commands.peft.plan import model_format, optimizer_state_bytes, share, trained_format
from estimator.errors import InputError
from estimator.formula import Citation
from estimator.formulas.params import total_params
from estimator.formulas.peft import adapter_bytes
from estimator.models import Model
from estimator.peft import METHODS, find
from estimator.peft.asked import prepare
from estimator.peft.base import Method
from estimator.report import Cell, Node, Report, Table
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, ELEMENTS, PARAMS, PERCENT

# methods that have no place in a comparison: they need tokens or adapters of the user's own
NOT_COMPARED = ("trainable_tokens", "cpt", "xlora")


def compare(
    model: Model,
    rank: Any = None,
    targets: str | Sequence[str] | None = None,
    args: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    optimizer: str = "adamw",
) -> Report:
    """Every method at its own defaults (and at ``rank``, where it has one) in one table."""
    if args:
        raise InputError("--arg belongs to one method; --method all compares them at their defaults")
    base = total_params(model.architecture)
    rows: list[tuple[str | Cell | None, ...]] = []
    hidden: list[Node] = []
    refused: list[str] = []
    for name in METHODS:
        if name in NOT_COMPARED:
            continue
        found = find(name)
        try:
            adapter = prepare(
                model, name, rank if _takes_rank(found) else None, targets if found.mapping else None, None, None
            )
        except InputError as error:
            refused.append(f"{name}: {str(error).removeprefix(f'--method {name}: ')}")
            continue
        fmt, _ = trained_format(adapter, dtype)
        rows.append(
            (
                found.title,
                name,
                Cell(adapter.rank, COUNT) if adapter.rank else None,  # OFT's r may be 0: its blocks have a size
                Cell(adapter.trained, PARAMS),
                Cell(share(adapter, base), PERCENT),
                Cell(adapter.frozen, ELEMENTS),
                Cell(adapter_bytes(adapter.trained, fmt.block_bits), BYTES),
                Cell(optimizer_state_bytes(adapter, fmt, model_format(model), optimizer), BYTES),
                Cell(adapter_bytes(adapter.saved, fmt.block_bits), BYTES),
                "yes" if found.merges else "no",
            )
        )
        hidden.append(Node(f"{name}.trainable_params", found.title, adapter.trained, PARAMS))
        hidden.append(Node(f"{name}.frozen_extra_params", found.title, adapter.frozen, ELEMENTS))
    rows.sort(key=lambda row: value_of(row[3].value) if isinstance(row[3], Cell) else 0)
    columns = (
        "method",
        "name",
        "rank",
        "trained",
        "share",
        "frozen beside",
        "trained bytes",
        "optimizer",
        "checkpoint",
        "merges",
    )
    title = f"Every method on {model.name}" + ("" if rank is None else f", rank {rank} where there is one")
    return Report(
        "peft",
        title,
        {"model": model.name, "method": "all", "rank": None if rank is None else str(rank)},
        (Table("", columns, tuple(rows), "fewest trained parameters first"),),
        {},
        (*model.notes, "each method at the peft library's defaults", *(f"not possible here: {r}" for r in refused)),
        (Citation("peft 0.21.2, tuners"),),
        tuple(model.notes),
        symbolic=model.kind == "symbolic",
        hidden=tuple(hidden),
    )


def _takes_rank(method: Method) -> bool:
    """Whether a common ``--rank`` means a rank for it (OFT's r is a number of blocks)."""
    return bool(method.rank) and method.name not in ("oft", "osf", "multitask_prompt_tuning")
