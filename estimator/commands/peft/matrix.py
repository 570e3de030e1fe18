"""LoRA on one matrix, against a full update of it."""

from __future__ import annotations

from typing import Any

from estimator.commands.peft.solve import solve_matrix
from estimator.dtypes import find_format
from estimator.errors import InputError
from estimator.formulas.peft import adapter_bytes, lora_params, matrix_params
from estimator.report import Node, Report
from estimator.sizes import letter_or_size
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, PARAMS

DEFAULT_RANK = 8


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
    if reduction is not None:
        r = solve_matrix(d_in, d_out, reduction)
    else:
        r = letter_or_size(str(DEFAULT_RANK if rank is None else rank), "--rank", "rank", traced)
    if value_of(r) < 1:
        raise InputError(f"--rank must be >= 1, got {value_of(r)}")
    fmt = find_format(dtype or "fp32")
    full, lora = matrix_params(d_in, d_out), lora_params(d_in, d_out, r)
    symbolic = any(s.strip().isidentifier() for s in sides) or (isinstance(rank, str) and rank.strip().isidentifier())
    notes = []
    if not symbolic and value_of(r) > min(value_of(d_in), value_of(d_out)):
        notes.append(f"rank {value_of(r)} is above the smaller side of the matrix: a full update has fewer parameters")
    nodes = (
        Node("rank", "Rank", r, COUNT),
        Node("trainable_params", "LoRA trains", lora, PARAMS, formula=lora_params),
        Node("full_params", "A full update trains", full, PARAMS, formula=matrix_params),
        Node("times_fewer", "Times fewer", full / lora, COUNT),
        Node("added_bytes", f"LoRA, {fmt.name}", adapter_bytes(lora, fmt.block_bits), BYTES),
        Node("full_bytes", f"A full update, {fmt.name}", adapter_bytes(full, fmt.block_bits), BYTES),
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
