"""What is swept: lists and ranges of sizes and names, and the rows that they span."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

from estimator.errors import InputError
from estimator.ops import numpy_there
from estimator.records import NamedTuple
from estimator.sizes import SIZE, kind_of
from estimator.units import parse_size

# sizes that one run is recorded for; the others, and names, are asked anew for each value
RECORDED = ("batch_size", "seq_len", "new_tokens", "rank", "context", "encoder_len", "shared_prefix")
ALSO = {"zero": ("gpus",)}  # further ones of a command
WITH_COMMAS = ("targets", "args", "tensor_split")  # whose values may hold commas: a list of them has semicolons
MOST = 10**10  # rows
_DOTS = re.compile(r"^(\d[\d_]*[A-Za-z]*)\.\.(?=\d)")  # 1..8, as plan writes it
_RANGE = re.compile(rf"^({SIZE}):({SIZE})(?::(x?)({SIZE}))?$")


class SweptAxis(NamedTuple):
    """An option with the values that it takes, in order."""

    name: str
    values: Sequence[Any]


class RowGrid(NamedTuple):
    """All combinations: ``names`` vary slowest, in their order; of ``sizes`` the last varies fastest."""

    names: tuple[SweptAxis, ...]
    sizes: tuple[SweptAxis, ...]

    def __len__(self) -> int:
        return prod(len(a.values) for a in (*self.names, *self.sizes))

    @property
    def inner(self) -> int:
        """Rows a combination of names."""
        return prod(len(a.values) for a in self.sizes)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the names."""
        for values in product(*(a.values for a in self.names)):
            yield dict(zip((a.name for a in self.names), values, strict=True))

    def columns(self, start: int, stop: int) -> dict[str, Any]:
        """The sizes of rows ``start`` to ``stop`` of a combination: arrays with numpy, else lists."""
        out: dict[str, Any] = {}
        if numpy_there():
            import numpy as np

            at: Any = np.arange(start, stop)
            for axis in reversed(self.sizes):
                at, place = np.divmod(at, len(axis.values))
                out[axis.name] = np.asarray(axis.values, dtype=np.int64)[place]
        else:
            step = 1
            for axis in reversed(self.sizes):
                n = len(axis.values)
                out[axis.name] = [axis.values[i // step % n] for i in range(start, stop)]
                step *= n
        return {a.name: out[a.name] for a in self.sizes}


def recorded_by(command: str) -> tuple[str, ...]:
    """The sizes of a command that one run is recorded for."""
    return (*RECORDED, *ALSO.get(command, ()))


def grid_of(axes: Sequence[SweptAxis], recorded: Sequence[str] = RECORDED) -> RowGrid:
    """The grid of these axes; recorded: the sizes that may be. InputError for too many rows."""
    sizes = tuple(a for a in axes if a.name in recorded and all(type(v) is int for v in a.values))
    grid = RowGrid(tuple(a for a in axes if a not in sizes), sizes)
    rows = prod(len(a.values) for a in axes)
    if rows > MOST:
        raise InputError(f"sweep: {rows:,} rows are too many (at most {MOST:,}); take wider steps")
    return grid


def values_of(name: str, text: str, flag: str, recorded: Sequence[str] = RECORDED) -> Sequence[Any]:
    """The values of ``--flag TEXT``: ``1,2,4``, ``1:8`` or ``1..8`` (each), ``1k:64k:1k`` (steps), ``1k:64k:x2``.

    Sizes that one run is recorded for come as ints, all else as the texts that the command would be given.
    """
    split = ";" if name in WITH_COMMAS else ","
    parts = [_DOTS.sub(r"\1:", part.strip()) for part in text.split(split)]
    if len(parts) > 1 and not all(parts):
        raise InputError(f"{flag}: {text[:40]!r} has an empty value")
    out: list[Any] = []
    if len(parts) == 1 and name in recorded and (match := _RANGE.match(parts[0])):
        return _range(name, flag, parts[0], *match.groups())
    for part in parts:
        match = _RANGE.match(part)
        if match is not None:
            found: Sequence[int] = _range(name, flag, part, *match.groups())
            out += found if name in recorded else [str(n) for n in found]
        elif name in recorded and part[:1].isdigit():
            out.append(parse_size(part, flag, kind_of(name)))
        else:
            out.append(part)
    return out


def _range(
    name: str, flag: str, text: str, first: str, last: str, factor: str | None, step: str | None
) -> Sequence[int]:
    low, high = (parse_size(x, flag, kind_of(name)) for x in (first, last))
    by = 1 if step is None else parse_size(step, flag, "count" if factor else kind_of(name))
    if low > high:
        raise InputError(f"{flag}: {text[:40]!r} ends before it begins")
    if not factor:
        if (high - low) // by >= MOST:
            raise InputError(f"{flag}: {text[:40]!r} has too many values; take wider steps")
        return range(low, high + 1, by)
    if by < 2:
        raise InputError(f"{flag}: {text[:40]!r}: a factor must be at least 2")
    out = [low]
    while out[-1] * by <= high:
        out.append(out[-1] * by)
    return out
