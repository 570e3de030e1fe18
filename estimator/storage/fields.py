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
