"""A run that is asked again with other sizes: recorded once, then evaluated in a tenth of the time.

What is kept is no answer but the run itself: what it makes as polynomials of its sizes, and the comparisons that were
decided on the way (:mod:`estimator.sweep.record`). Where one of them would come out otherwise, the run is run as ever,
and recorded anew once that was often so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Generic, TypeVar

from estimator.records import replace
from estimator.trace import recording

T = TypeVar("T")
Sizes = Mapping[str, int]
Made = Callable[[list[int]], T]  # what a run makes, of the slots of its record (estimator.sweep.ints.Single)

MOST = 2**32  # of a size; what is larger is run
PATIENCE = 20  # runs before a record, which takes as long as a dozen; twice as many where the last served fewer
MOST_RECORDS = 6


class Again(Generic[T]):
    """The runs of ``run`` that differ in the fields ``names`` of what they are given alone.

    keep: what it makes, as a function of the slots of its record; equal: compares two of them.
    """

    def __init__(
        self, run: Callable[[Any], T], names: tuple[str, ...], keep: Callable[[Any, T], Made[T]],
        equal: Callable[[T, T], bool] = lambda a, b: a == b,
    ) -> None:  # fmt: skip
        self.run, self.names, self.keep, self.equal = run, names, keep, equal
        self.records: tuple[tuple[Any, Made[T]], ...] = ()
        self.left = self.patience = PATIENCE
        self.served = PATIENCE + 1  # since the last record, before which there was none that served fewer
        self.lock = Lock()

    def at(self, load: Any) -> T:
        """``run(load)``, out of a record where there is one that holds for its sizes."""
        sizes = {name: getattr(load, name) for name in self.names}
        for single, made in self.records:
            if (slots := single.at(sizes)) is not None:
                self.served += 1
                return made(slots)
        out = self.run(load)
        with self.lock:
            self.left -= 1
            if due := self.left == 0:
                self.patience = self.left = PATIENCE if self.served > self.patience else 2 * self.patience
                self.served = 0
        if due:
            self._add(load, sizes, out)
        return out

    def _add(self, load: Any, sizes: Sizes, out: T) -> None:
        """Keep a record of the run of ``load``, if it says of this one what was found."""
        found = self._recorded(load, sizes)
        if found is not None and (slots := found[0].at(sizes)) is not None and self.equal(found[1](slots), out):
            self.records = (found, *self.records)[:MOST_RECORDS]

    def _recorded(self, load: Any, sizes: Sizes) -> tuple[Any, Made[T]] | None:
        from estimator.sweep.fold import Recording
        from estimator.sweep.ints import Single

        record = Recording({name: (min(1, n), MOST) for name, n in sizes.items()})
        record.worded = True
        token = recording.set(record)
        try:
            out = self.run(replace(load, **{name: record.size(name, n) for name, n in sizes.items()}))
            single = Single(record)
            made = self.keep(single, out)
            single.close()
            return single, made
        except Exception:  # what cannot be recorded is run
            return None
        finally:
            recording.reset(token)


def recordable(*sizes: Any) -> bool:
    """Whether a run with these sizes may be recorded: on ints, and in no sweep, which has a record of its own."""
    return recording.get() is None and all(type(x) is int for x in sizes)
