"""Sizes given on the command line: an int, a text such as ``8k``, or, where there are no sizes yet, a letter."""

from __future__ import annotations

import re
from typing import Any

from estimator.errors import InputError
from estimator.models import Model
from estimator.stand_ins import stand_in
from estimator.trace import Recordable, Traced, trace
from estimator.units import parse_size

_LETTER = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,30}$")
# what is larger is a typing error; every other count is at most _MOST
LARGEST = {"tokens": 10**18, "params": 10**18, "largest_layer": 10**18, "steps": 10**15, "examples": 10**15}
_MOST = 10**9


SIZE = r"\d[\d_.]*(?:[eE]\d+)?[A-Za-z]*"
_ONE = re.compile(rf"^{SIZE}$")
# options of which k is 1000; of every other size it is 1024
COUNTS = ("rank", "gpus", "stage", "tokens", "steps", "params", "examples", "mean_tokens", "trainable_layers",
          "largest_layer", "width", "vocab", "length", "bits")  # fmt: skip


def kind_of(name: str) -> str:
    """What the letters behind an option's size mean: see :func:`estimator.units.parse_size`."""
    return "count" if name in COUNTS else "length"


def as_number(name: str, value: Any) -> Any:
    """A size as the int that it stands for, 8192 for ``8k``; what is none (``all``, ``1,2``, a letter) as it is."""
    if not isinstance(value, str) or not _ONE.match(value.strip()):
        return value
    try:
        return 0 if value.strip() == "0" else parse_size(value.strip(), name, kind_of(name))
    except InputError:
        return value


def is_letter(value: Any) -> bool:
    """Whether ``value`` is a letter of the user's own."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    return bool(_LETTER.match(text)) and text.lower() not in ("nan", "inf", "infinity")


def letter_or_size(value: Any, flag: str, name: str, traced: bool = False, kind: str = "count") -> Any:
    """A size of a command that needs no model: a letter of the user's own, or an int (traced as ``name``)."""
    if is_letter(value):
        return trace(name, stand_in(name), name=value.strip())
    number = parse_size(value, flag, kind) if isinstance(value, str) else value
    return trace(name, number) if traced and not isinstance(number, Traced) else number


def size_option(
    model: Model | None, value: Any, flag: str, field: str, kind: str = "count", letters: bool | None = None
) -> Any:
    """``value`` as an exact int >= 1; traced in a run that derives, a letter where the model is given in letters.

    kind: ``count``, ``length`` (k is 1024) or ``bytes``; see :func:`estimator.units.parse_size`. letters: whether a
    letter may stand for it (default: where the model is given in letters). Raises InputError for what is no size.
    """
    if isinstance(value, Traced):
        return value
    symbolic = model is not None and model.kind == "symbolic"
    derives = model is not None and model.derives
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("nan", "inf", "infinity"):
            raise InputError(f"{flag} must be a finite number, got {text}")
        if is_letter(text):
            if not (symbolic if letters is None else letters):
                raise InputError(f"{flag}: {text!r} is a letter; letters need --model symbolic")
            return trace(field, stand_in(field), name=text)
        value = parse_size(text, flag, kind)
    if isinstance(value, bool) or not isinstance(value, int | Recordable) or value < 1:
        raise InputError(f"{flag} must be a whole number >= 1, got {str(value)[:40]!r}")
    most = LARGEST.get(field, _MOST)
    if value > most and kind != "bytes":
        raise InputError(f"{flag} {value:,} is out of range (at most {most:,})")
    return trace(field, value) if derives and not symbolic else value
