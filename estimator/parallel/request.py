"""The sizes that describe a job on many GPUs, read from the command line: whole numbers, or letters."""

from __future__ import annotations

import re
from typing import Any

from estimator.errors import InputError
from estimator.models import Model
from estimator.trace import Traced, trace
from estimator.units import parse_size

_LETTER = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,30}$")
# stand-ins of letters: they decide which branch is taken and are never printed; powers of two divide each other
STAND_INS = {
    "params": 2**40,
    "gpus": 64,
    "tensor_parallel": 2,
    "pipeline_parallel": 2,
    "context_parallel": 2,
    "expert_parallel": 2,
    "batch_size": 2,
    "seq_len": 1024,
    "micro_batches": 8,
    "largest_layer": 2**20,
}
LARGEST = 10**9  # GPUs, micro-batches: larger numbers are typing errors


def is_letter(value: Any) -> bool:
    """Whether ``value`` is a letter of the user's own."""
    return (
        isinstance(value, str)
        and bool(_LETTER.match(value.strip()))
        and value.strip().lower() not in ("nan", "inf", "infinity")
    )


def size(
    value: Any, flag: str, field: str, model: Model | None, derive: bool, kind: str = "count", most: int = LARGEST
) -> Any:
    """``value`` as an exact int >= 1, traced where the run derives; a letter without a model or with one in letters."""
    if isinstance(value, Traced):
        return value
    letters = model is None or model.kind == "symbolic"
    if isinstance(value, str):
        text = value.strip()
        if is_letter(text):
            if not letters:
                raise InputError(f"{flag}: {text!r} is a letter; letters need --params or --model symbolic")
            return trace(field, STAND_INS[field], name=text)
        value = parse_size(text, flag, kind)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{flag} must be a whole number >= 1, got {str(value)[:40]}")
    if value > most:
        raise InputError(f"{flag} {value} is out of range (at most {most})")
    # a factor of 1 would only put a letter into every expression
    return trace(field, value) if derive and value > 1 else value


def zero_stage(value: Any) -> int:
    """``--stage`` as one of 0, 1, 2, 3."""
    text = str(value).strip()
    if text not in ("0", "1", "2", "3"):
        raise InputError(f"--stage must be 0, 1, 2 or 3, got {text[:20]!r}")
    return int(text)
