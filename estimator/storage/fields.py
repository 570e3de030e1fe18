"""Groups of fields of a checkpoint's files, each read through one door, validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.errors import InputError


class Fields:
    """A group of fields of a file, each through one door; errors name the file and the field."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.raw, self.where = raw, where

    def whole(self, names: str, default: int, least: int = 1, most: int = 10**6) -> int:
        """A whole number under the first of the ``|``-separated names."""
        for name in names.split("|"):
            value = self.raw.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"{self.where}: {name} must be a whole number >= {least}, got {str(value)[:40]!r}")
            return value
        return default

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean."""
        value = self.raw.get(name)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{self.where}: {name} must be true or false, got {str(value)[:40]!r}")
        return default if value is None else value

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.raw.get(name)
        if value is not None and not isinstance(value, str):
            raise InputError(f"{self.where}: {name} must be a string, got {str(value)[:40]!r}")
        return default if value is None else value

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        """One of these words, in lower case; the first where the field is absent."""
        value = self.text(name, known[0]).strip().lower()
        if value not in known:
            raise InputError(f"{self.where}: {name} must be {' or '.join(known)}, got {value[:40]!r}")
        return value

    def tile(self, name: str) -> tuple[int, int] | None:
        """(rows, columns) of a tile, None where the field is absent."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2:
            raise InputError(f"{self.where}: {name} must be [rows, columns], got {str(value)[:40]!r}")
        sides = Fields({"rows": value[0], "columns": value[1]}, f"{self.where}: {name}")
        return sides.whole("rows", 1), sides.whole("columns", 1)

    def names(self, *names: str) -> list[str] | None:
        """A list of strings under the first of these names that is there, else None."""
        for name in names:
            value = self.raw.get(name)
            if value is None:
                continue
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise InputError(f"{self.where}: {name} must be a list of names, got {str(value)[:40]!r}")
            return value
        return None

    def group(self, name: str) -> Fields | None:
        """A group of fields inside this one, or None."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise InputError(f"{self.where}: {name} must be a group of fields, got {str(value)[:40]!r}")
        return Fields(value, f"{self.where}: {name}")


def bits_of(c: Fields, default: int = 4, most: int = 8) -> int:
    """Bits of a code, by any of their names."""
    return c.whole("bits|w_bit|num_bits|weight_bits|nbits", default, most=most)


def group_of(c: Fields, default: int = 128) -> int:
    """Inputs that share a scale; -1 for all of them."""
    return c.whole("group_size|q_group_size", default, least=-1)


def named(method: str, bits: int, group: int) -> str:
    """``gptq-4bit-g128``; a group of all inputs is left out."""
    return f"{method}-{bits}bit{f'-g{group}' if group > 0 else ''}"


def grouping(group: int) -> str:
    """A group in words."""
    return f"groups of {group} inputs" if group > 0 else "one group a row"
