"""Sizes given on the command line: an int, a text such as ``8k``, or, for a model in letters, a letter."""

from __future__ import annotations

import re
from typing import Any

from estimator.errors import InputError
from estimator.models import Model
from estimator.trace import Traced, trace
from estimator.units import parse_size

_LETTER = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,30}$")
STAND_INS = {
    "batch_size": 2,
    "seq_len": 1024,
    "encoder_len": 1024,
    "rank": 8,
    "gpus": 8,
    "trainable_layers": 2,
    "num_virtual_tokens": 20,
}
_STAND_IN = 64


def letter_or_size(value: Any, flag: str, name: str, traced: bool = False, kind: str = "count") -> Any:
    """A size of a command that needs no model: a letter of the user's own, or an int (traced as ``name``)."""
    if isinstance(value, str) and _LETTER.match(value.strip()) and value.strip().lower() not in ("nan", "inf"):
        return trace(name, _STAND_IN, name=value.strip())
    number = parse_size(value, flag, kind) if isinstance(value, str) else value
    return trace(name, number) if traced and not isinstance(number, Traced) else number


def size_option(model: Model | None, value: Any, flag: str, field: str, kind: str = "count") -> Any:
    """``value`` as an exact int >= 1; traced in a run that derives, a letter where the model is given in letters.

    kind: ``count``, ``length`` (k is 1024) or ``bytes``; see :func:`estimator.units.parse_size`.
    """
    if isinstance(value, Traced):
        return value
    symbolic = model is not None and model.kind == "symbolic"
    traced = symbolic or bool(model and model.config and model.config.traced)
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("nan", "inf", "infinity"):
            raise InputError(f"{flag} must be a finite number, got {text}")
        if _LETTER.match(text):
            if not symbolic:
                raise InputError(f"{flag}: {text!r} is a letter; letters need --model symbolic")
            return trace(field, STAND_INS.get(field, _STAND_IN), name=text)
        value = parse_size(text, flag, kind)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{flag} must be a whole number >= 1, got {value!r}")
    return trace(field, value) if traced and not symbolic else value
