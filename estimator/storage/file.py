"""A checkpoint's own bytes: what its header or its index says, against what its config gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.dtypes import FORMATS
from estimator.storage.base import Storage
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.models import Model

FILE_FORMATS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
NEAR = 0.05  # of the weights: buffers and a tied matrix stored twice lie within it, another width does not


def base_format(model: Model) -> str:
    """The format of what is not quantised: as the config says, as most of the file, as the index's total; bf16."""
    said = model.declared.dtype
    if said is not None:
        return said
    header = model.header
    if header is None or header.kind == "gguf":
        return "bf16"
    for kind in header.by_dtype():
        if kind.upper() in FILE_FORMATS:
            return FILE_FORMATS[kind.upper()]
    if header.total_bytes is not None and model.declared.scheme is None and not model.declared.unknown:
        elements = sum(int(value_of(w.total)) for w in model.architecture.weights())
        if abs(header.total_bytes / max(1, elements) - FORMATS["fp32"].bytes(1)) < NEAR * FORMATS["fp32"].bytes(1):
            return "fp32"
    return "bf16"


def with_file(model: Model, made: Storage, compare: bool = True) -> Storage:
    """``made`` with the file's own bytes where its codes are packed, and a note where both differ.

    compare: False where the weights are wanted in another type than the file's.
    """
    header, found = model.header, model.stored_bytes
    if header is None or found is None:
        return made
    kinds = [*header.by_dtype()]
    if kinds and not header.missing:
        note = f"weights as they lie in {header.path}: {', '.join(kinds)}"
        packed = not all(k.upper() in FILE_FORMATS for k in kinds)
        return replace(made, notes=(*made.notes, note), total=found if packed else None)
    if model.declared.unknown:
        note = f"weights: the {found:,} bytes that {header.path} totals"
        return replace(made, notes=(*made.notes, note), total=found)
    computed = int(value_of(made.computed))
    if not compare or computed == found:
        return made
    loud = "WARNING: " if abs(found - computed) > NEAR * computed else ""
    more = f"the config gives {computed:,} ({found - computed:+,})"
    note = f"{loud}{header.path}: totals {found:,} bytes of weights, {more}"
    return replace(made, notes=(*made.notes, note))
