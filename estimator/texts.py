"""Texts of repeatable options to values: ``NAME=VALUE`` pairs, JSON where it parses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from estimator.errors import InputError

MAX_LENGTH = 10_000  # characters of one value; longer ones are mistakes or attacks
MAX_BITS = 12_000  # of a whole number; Python shows 4,300 digits
MAX_ARGUMENT = 100_000  # of one --arg: AdaLoRA's rank_pattern lists every layer


def too_long(found: Any) -> bool:
    """Whether what a TOML file holds has a whole number that cannot be shown: 0xfff... is read whatever its length."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        return any(map(too_long, found))
    return isinstance(found, int) and found.bit_length() > MAX_BITS


def pairs(items: Iterable[str] | None, flag: str) -> dict[str, str]:
    """``["a=1", "b=2"]`` as a dict; InputError where an item has no ``=`` or no name."""
    out: dict[str, str] = {}
    for item in items or ():
        name, eq, value = item.partition("=")
        if not eq or not name.strip():
            raise InputError(f"{flag}: expected NAME=VALUE, got {item[:60]!r}")
        out[name.strip()] = value.strip()
    return out


def json_or_text(value: str, most: int = MAX_LENGTH) -> Any:
    """``value`` as JSON where it parses, as text otherwise (the contract of ``--arg`` and ``--set``)."""
    import json

    if len(value) > most:
        raise InputError(f"value too long: {len(value)} characters")
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def arguments(items: Iterable[str] | None, flag: str = "--arg") -> dict[str, Any]:
    """``["r=8", "targets=q_proj"]`` with each value as JSON or text."""
    return {name: json_or_text(value, MAX_ARGUMENT) for name, value in pairs(items, flag).items()}
