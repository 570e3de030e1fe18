"""The fold of a log over recorded numbers: every level that may be the peak, and who is alive at the one that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from estimator.sweep import real
from estimator.sweep.record import Record, widest

if TYPE_CHECKING:
    from estimator.stack.replay import At, Replay


class Top:
    """The places that may be the peak, in order; which it is is asked where somebody wants to know who is alive.

    A place is one of :class:`estimator.stack.replay.Replay`, whose rounds are (how many before the last, bytes that
    each leaves): a segment that leaves nothing peaks in its first.
    """

    def __init__(self, found: list[tuple[Any, Any]]) -> None:
        self.found = found

    def place(self) -> At | None:
        """The first place of the largest level in this run; the record holds where it is that one."""
        best, at = self.found[0]
        for level, place in self.found[1:]:
            if level > best:
                best, at = level, place
        if at is None:
            return None
        before, (rounds, left), within = at
        return before, rounds if left > 0 else 0, within


class Recording(Record):
    """A record that folds logs and knows floats."""

    floats = real

    def run(self, replay: Replay, log: Sequence[Any], start: int) -> None:
        """:meth:`Replay.run` on recorded numbers: ``replay.peak`` is the largest level of each row."""
        level = replay.level
        before: Any = replay.top
        if isinstance(before, tuple):
            before = before[0], (before[1], before[1]), before[2]
        found: list[tuple[Any, Any]] = [(replay.peak, before)]
        for i in range(start, len(log)):
            sign, what = log[i]
            if type(what) is list:
                now, levels = _within(what)
                if sign > 0:
                    last = (sign - 1) * self.extreme([now, 0], True)
                    found += [(level + last + x, (i, (sign - 1, now), j)) for x, j in levels]
                    level = level + sign * now
            else:
                level = level + sign * what[0]
                if sign > 0 and (i + 1 == len(log) or type(log[i + 1][1]) is list or log[i + 1][0] < 0):
                    found.append((level, (i + 1, (0, 0), 0)))
        kept = {id(x) for x in widest([x for x, _ in found], True)}
        left = [(x, at) for x, at in found if id(x) in kept]
        replay.level, replay.peak = level, self.extreme([x for x, _ in left], True)
        replay.top = Top(left)  # type: ignore[assignment]


def _within(entries: list[Any]) -> tuple[Any, list[tuple[Any, int]]]:
    """(what a round leaves, the levels within it after which something is given back)."""
    now: Any = 0
    levels: list[tuple[Any, int]] = []
    for j, (sign, record) in enumerate(entries):
        now = now + sign * record[0]
        if sign > 0 and (j + 1 == len(entries) or entries[j + 1][0] < 0):
            levels.append((now, j + 1))
    return now, levels
