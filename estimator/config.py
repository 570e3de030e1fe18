"""Reading a ``config.json``: every field through one door, validated, with the class's own default.

A real config leaves out what equals its class's default, so each family states the default where it reads a field.
In a traced run (``--derive``) sizes come back as traced numbers under their registered letters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from estimator.errors import InputError
from estimator.symbols import BY_FIELD
from estimator.trace import Traced, trace

MAX_SIZE = 10**12  # no dimension of any model comes near; larger numbers are typing errors
LOOPED = ("_layers", "depth", "res2net_scale")  # ends of the fields that count what is made one by one
WITHIN = ("_iters", "altup_num_inputs")  # ends of those that count what a layer does one by one
MOST_WITHIN = 100  # DeepSeek-V4 balances its streams in 20 rounds, Gemma 3n has 4 copies of the residual stream
MAX_LAYERS = 10_000  # of a stack: what may be looked at one by one; DeepNet has 1,000 (arXiv:2203.00555)

_MISSING: Any = object()


class Recorded(dict[str, Any]):
    """A mapping that remembers which of its names were asked for, in ``read``."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.read: set[str] = set()
        self.spelt: dict[str, str] = {}  # other spellings of a field -> the one that is there

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's, remembered."""
        self.read.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def copied(self) -> dict[str, Any]:
        """A plain copy, which asks for nothing."""
        return dict(zip(dict.keys(self), dict.values(self), strict=True))

    def __iter__(self) -> Iterator[str]:
        """All names, which a copy asks for."""
        self.read.update(dict.keys(self))
        return super().__iter__()


class Config:
    """One model's config.

    raw       the mapping as read, after ``--set``; its ``read`` are the names that were asked for
    traced    True in a run that derives: :meth:`size` then returns traced numbers
    notes     guesses that were taken, printed as notes and as assumptions
    letters   those of its traced numbers, so that any thread can derive from them: letter -> (number, field)
    """

    def __init__(self, raw: Mapping[str, Any], traced: bool = False, where: str = "config.json") -> None:
        self.raw, self.traced, self.where = Recorded(raw), traced, where
        self.notes: list[str] = []
        self.letters: dict[str, tuple[Any, str]] = {}

    def _get(self, names: str, default: Any) -> tuple[str, Any]:
        """The first of the ``|``-separated spellings that is present and not null."""
        first, *rest = names.split("|")
        self.raw.read.update(rest)  # every spelling is known, also where the first is there
        for name in (first, *rest):
            if self.raw.get(name) is not None:
                self.raw.spelt.update((other, name) for other in (first, *rest) if other != name)
                return name, self.raw[name]
        if default is _MISSING:
            raise InputError(f"{self.where}: {first} is missing")
        return first, default

    def size(self, names: str, default: Any = _MISSING, letter: str | None = None, least: int = 1) -> Any:
        """A whole number >= ``least``; ``names`` lists spellings, ``letter`` the canonical field it is traced as.

        A ``default`` that is already traced, or None, is returned as it is.
        """
        name, value = self._get(names, default)
        if value is default and self.raw.get(name) is None and not isinstance(value, int):
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{self.where}: {name} must be a whole number, got {str(value)[:40]!r}")
        field = letter or names.split("|")[0]
        most = MAX_LAYERS if field.endswith(LOOPED) else MOST_WITHIN if field.endswith(WITHIN) else MAX_SIZE
        if value < least:
            raise InputError(f"{self.where}: {name} must be >= {least}, got {str(value)[:40]}")
        if value > most:
            raise InputError(f"{self.where}: {name} is out of range (at most {most:,}), got {str(value)[:40]}")
        return self._traced(field, value) if self.traced and field in BY_FIELD else value

    def _traced(self, field: str, value: Any) -> Traced:
        made = trace(field, value)
        self.letters[made.expr.name] = (value, field)
        return made

    def heed(self, inner: Config) -> None:
        """Take over the notes of a config that was read out of this one."""
        self.notes += [note for note in inner.notes if note not in self.notes]

    def named(self, field: str, value: Any) -> Any:
        """``value``, derived from other fields, under the letter of ``field``, so that derivations read it as one."""
        return self._traced(field, value.value) if isinstance(value, Traced) else value

    def plain(self, names: str, default: Any = _MISSING, least: int = 0) -> int:
        """A whole number that is structure, never traced: a pattern's period, the first dense layers."""
        keep, self.traced = self.traced, False
        try:
            return int(self.size(names, default, least=least))
        finally:
            self.traced = keep

    def flag(self, names: str, default: bool) -> bool:
        """A boolean."""
        name, value = self._get(names, default)
        if not isinstance(value, bool):
            raise InputError(f"{self.where}: {name} must be true or false, got {str(value)[:40]!r}")
        return value

    def text(self, names: str, default: str) -> str:
        """A string."""
        name, value = self._get(names, default)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: {name} must be a string, got {str(value)[:40]!r}")
        return value

    def items(self, names: str, length: int | None = None) -> list[Any] | None:
        """A list (of ``length`` entries where given), or None where the field is absent."""
        name, value = self._get(names, None)
        if value is None:
            return None
        if not isinstance(value, list):
            raise InputError(f"{self.where}: {name} must be a list, got {str(value)[:40]!r}")
        if length is not None and len(value) != length:
            raise InputError(f"{self.where}: {name} has {len(value)} entries for {length} layers")
        return value

    def number(self, names: str, default: float) -> float:
        """A finite real number."""
        name, value = self._get(names, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value != value
            or abs(value) > MAX_SIZE
        ):
            raise InputError(f"{self.where}: {name} must be a number, got {str(value)[:40]!r}")
        return float(value)

    def divides(self, small: Any, large: Any, small_name: str, large_name: str) -> None:
        """InputError unless ``small`` divides ``large``."""
        if large % small != 0:
            raise InputError(
                f"{self.where}: {large_name}={int(large)} is not a multiple of {small_name}={int(small)}"
            )
