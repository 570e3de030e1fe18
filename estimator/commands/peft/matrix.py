"""LoRA on one matrix, against a full update of it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from estimator.commands.peft.solve import solve_matrix
from estimator.dtypes import find_format
from estimator.errors import InputError
from estimator.formulas.peft import adapter_bytes, lora_params, matrix_params
from estimator.report import Node, Report
from estimator.sizes import letter_or_size
from estimator.trace import trace, value_of
from estimator.units import COUNT, PARAMS
from estimator.working import Form, Step, Working, over, plus, times

DEFAULT_RANK = 8


def _solved(d_in: Any, d_out: Any, reduction: Any) -> Working:
    """The rank solved for: as many parameters as LoRA may have, over those that a rank adds."""
    wanted = Fraction(str(reduction).strip())

    def steps() -> list[Step]:
        rank = over(times(d_in, d_out), times(wanted, plus(d_in, d_out)))
        whole = value_of(d_in) * value_of(d_out) / (wanted * (value_of(d_in) + value_of(d_out))) % 1 == 0
        allowed = over(times(d_in, d_out), wanted)
        return [
            Step(f"a full update trains d_in d_out; {wanted} times fewer are", allowed, (), "allowed", False),
            Step("a rank trains", plus(d_in, d_out), (), "each", False),
            Step("so r (d_in + d_out) = allowed; the rank is a whole number, not above",
                 rank if whole else Form("floor", (rank,))),
        ]  # fmt: skip

    return steps


def matrix(
    text: str, rank: Any = None, reduction: Any = None, dtype: str | None = None, traced: bool = False
) -> Report:
    """LoRA on one matrix ``MxN``, numbers or letters: parameters and bytes against a full update.

    Without a rank, ``reduction`` says how many times fewer parameters are wanted, and the rank is solved for.
    """
    sides = [s for s in text.replace("*", "x").replace("X", "x").split("x") if s.strip()]
    if len(sides) != 2:
        raise InputError(f"--matrix must be ROWSxCOLUMNS, like 4096x1024 or mxl, got {text[:40]!r}")
    d_in, d_out = (letter_or_size(s.strip(), "--matrix", "d_out" if i else "d_in", traced) for i, s in enumerate(sides))
    if rank is not None and reduction is not None:
        raise InputError("--rank and --reduction contradict each other: give one")
    solved: Working | None = None
    if reduction is not None:
        found = solve_matrix(d_in, d_out, reduction)
        r = trace("rank", value_of(found)) if traced else found
        solved = _solved(d_in, d_out, reduction)
    else:
        found = r = letter_or_size(str(DEFAULT_RANK if rank is None else rank), "--rank", "rank", traced)
    if value_of(r) < 1:
        raise InputError(f"--rank must be >= 1, got {value_of(r)}")
    fmt = find_format(dtype or "fp32")
    full, lora = matrix_params(d_in, d_out), lora_params(d_in, d_out, r)
    symbolic = any(s.strip().isidentifier() for s in sides) or (isinstance(rank, str) and rank.strip().isidentifier())
    notes = []
    if not symbolic and value_of(r) > min(value_of(d_in), value_of(d_out)):
        notes.append(f"rank {value_of(r)} is above the smaller side of the matrix: a full update has fewer parameters")
    nodes = (
        Node("rank", "Rank", found, COUNT, working=solved),
        Node("trainable_params", "LoRA trains", lora, PARAMS, formula=lora_params),
        Node("full_params", "A full update trains", full, PARAMS, formula=matrix_params),
        Node(
            "times_fewer", "Times fewer", full / lora, COUNT,
            working=lambda: [Step("a full update's parameters over LoRA's", over(full, lora))],
        ),
        Node.of("added_bytes", f"LoRA, {fmt.name}", adapter_bytes, lora, fmt.block_bits),
        Node.of("full_bytes", f"A full update, {fmt.name}", adapter_bytes, full, fmt.block_bits),
    )
    letters = {"d_in": "inputs of the matrix", "d_out": "outputs of the matrix"}
    inputs = {"matrix": text, "rank": value_of(r), "dtype": fmt.name}
    return Report(
        "peft",
        f"LoRA on one matrix of {text}",
        inputs,
        nodes,
        {},
        tuple(notes),
        (),
        tuple(notes),
        symbolic,
        letters=letters,
    )
