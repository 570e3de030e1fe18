"""The sizes that describe a job on many GPUs, read from the command line: whole numbers, or letters."""

from __future__ import annotations

from typing import Any

from estimator.errors import InputError
from estimator.models import Model
from estimator.sizes import size_option
from estimator.trace import trace


def size(value: Any, flag: str, field: str, model: Model | None, derive: bool, kind: str = "count") -> Any:
    """``value`` as an exact int >= 1, traced where the run derives; a letter without a model or with one in letters."""
    found = size_option(None, value, flag, field, kind, letters=model is None or model.kind == "symbolic")
    # a factor of 1 would only put a letter into every expression
    return trace(field, found) if derive and isinstance(found, int) and found > 1 else found


def zero_stage(value: Any) -> int:
    """``--stage`` as one of 0, 1, 2, 3."""
    text = str(value).strip()
    if text not in ("0", "1", "2", "3"):
        raise InputError(f"--stage must be 0, 1, 2 or 3, got {text[:20]!r}")
    return int(text)
