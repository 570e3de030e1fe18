"""Folds over a log of allocations: the level, its peak, and who is alive at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.stack.tape import Record
from estimator.trace import Traced, recording, value_of

At = tuple[int, int, int]  # where a level is reached: entries before, rounds before, entries within


class Replay:
    """What a log amounts to: bytes at the ``end``, the ``peak``, and which buffers were alive at it.

    ``base`` bytes are alive before. Exact under repetition: a segment peaks in its first or its last round.
    """

    def __init__(self, base: int = 0) -> None:
        self.level = base
        self.peak = base
        self.top: At | None = None

    def run(self, log: Sequence[Any], start: int = 0) -> None:
        """Go through ``log[start:]``."""
        if (record := recording.get()) is not None:
            record.run(self, log, start)
            return
        level, peak, top = self.level, self.peak, self.top
        for i in range(start, len(log)):
            sign, what = log[i]
            if type(what) is list:
                rounds = sign.value if type(sign) is Traced else sign
                most, at, now = 0, 0, 0
                for j, (s, rec) in enumerate(what):
                    size = rec[0]
                    now += s * (size if type(size) is int else size.value)
                    if now > most:
                        most, at = now, j + 1
                last = (rounds - 1) * now if now > 0 else 0
                if rounds > 0:
                    if level + last + most > peak:
                        peak, top = level + last + most, (i, rounds - 1 if last else 0, at)
                    level += rounds * now
            else:
                size = what[0]
                level += sign * (size if type(size) is int else size.value)
                if level > peak:
                    peak, top = level, (i + 1, 0, 0)
        self.level, self.peak, self.top = level, peak, top


def settle(log: list[Any], start: int, carried: Sequence[Record]) -> None:
    """Give back once what was handed out once, in ``log[start:]``.

    A layer that stands for many frees what came before it in every round. What a layer hands to the next (``carried``:
    its output, a gradient on its way) each round frees of the round before; what all share (a mask, a cosine) only the
    last one does: the entry moves behind the segment.
    """
    shared = {id(record) for sign, record in log if type(record) is not list and type(sign) is int and sign == 1}
    shared -= {id(record) for record in carried}
    for i in reversed(range(start, len(log))):
        if type(log[i][1]) is list:
            freed = [j for j, (sign, record) in enumerate(log[i][1]) if sign == -1 and id(record) in shared]
            log[i + 1 : i + 1] = [log[i][1][j] for j in freed]
            for j in reversed(freed):
                del log[i][1][j]


def _told_apart(size: Any) -> Any:
    """A size as the key of a dictionary."""
    record = recording.get()
    return value_of(size) if record is None else record.key(size)


def alive(log: Sequence[Any], top: At | None) -> dict[tuple[str, str], Any]:
    """Bytes alive at a peak, by (where, what)."""
    out: dict[tuple[str, str], Any] = {}
    for (label, _), (times, size) in holders(log, top).items():
        if times != 0:
            out[label] = out.get(label, 0) + times * size
    return {k: v for k, v in out.items() if v != 0}


def holders(log: Sequence[Any], top: At | None) -> dict[Any, list[Any]]:
    """[how many, size] of the buffers alive at a peak, by ((where, what), size): what was handed out before it less
    what was given back."""
    counts: dict[Any, list[Any]] = {}
    plain = recording.get() is None

    def add(record: Record, times: Any) -> None:
        size = record[0]
        key = (record[1], size if plain and type(size) is int else _told_apart(size))
        entry = counts.get(key)
        if entry is None:
            counts[key] = [times, size]
        else:
            entry[0] = entry[0] + times

    if top is not None and not plain:
        top = top.place()  # type: ignore[attr-defined]
    if top is not None:
        before, rounds, within = top
        for sign, what in log[:before]:
            if type(what) is list:
                for s, record in what:
                    add(record, sign if s == 1 else -sign)
            else:
                add(what, sign)
        if before < len(log) and type(log[before][1]) is list:
            sign, what = log[before]
            if rounds:
                for s, record in what:
                    add(record, (sign - 1) if s == 1 else -(sign - 1))
            for s, record in what[:within]:
                add(record, s)
    _rename(counts)
    return counts


def _rename(counts: dict[Any, list[Any]]) -> None:
    """What each round of a segment gives back is the round before's, under the name that the segment gave it."""
    for (_, size), entry in counts.items():
        if value_of(entry[0]) >= 0:
            continue
        for (_, other), found in counts.items():
            if other == size and value_of(found[0]) > 0:
                moved = min(value_of(found[0]), -value_of(entry[0]))
                found[0], entry[0] = found[0] - moved, entry[0] + moved
                if value_of(entry[0]) >= 0:
                    break
