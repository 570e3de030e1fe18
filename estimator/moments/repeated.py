"""Outcomes as functions of a run's sizes, for runs that come again (:mod:`estimator.sweep.again`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from estimator.families.base import Architecture
from estimator.moments.outcome import Alive, Live, Moment, Outcome
from estimator.moments.workload import Workload
from estimator.peft.base import Adapter
from estimator.records import replace
from estimator.same import Alike, Same
from estimator.stack.kernels import Watched
from estimator.stack.replay import At, holders
from estimator.sweep.again import Again, recordable

if TYPE_CHECKING:
    from estimator.sweep.ints import Single, Sum

Run = Callable[[Architecture, Workload], Outcome]
Sums = dict[tuple[str, str], "Sum"]
Slots = list[int]
SIZES = tuple(f.name for f in fields(Workload)[:3])  # sequences, tokens of each, tokens after them
OTHERS = attrgetter(*(f.name for f in fields(Workload) if f.name not in (*SIZES, "adapter")))
MOST_PLACES = 64


def again(run: Run, arch: Architecture, load: Workload) -> Outcome:
    """``run(arch, load)``, out of a record of it where there is one that holds for these sizes.

    The last few are remembered: a search, a table of recipes or the advice comes to a run that was shown before.
    """
    key = run_key(arch, load)
    return run(arch, load) if key is None else _lately(run, Alike(load, key))


def run_key(arch: Architecture, load: Workload) -> tuple[Any, ...] | None:
    """What a run on ints is the same run by; None for others."""
    if not recordable(load.b, load.s, load.new):
        return None
    return Same(arch), Same(load.adapter), load.b, load.s, load.new, OTHERS(load)


@lru_cache(maxsize=8)
def _lately(run: Run, asked: Alike[Workload]) -> Outcome:
    key: Any = asked.key
    arch, adapter, *_, others = key
    return _runs(run, arch, adapter, others).at(asked.it)


@lru_cache(maxsize=32)
def _runs(run: Run, arch: Same[Architecture], adapter: Same[Adapter | None], others: tuple[Any, ...]) -> Again[Outcome]:
    return Again(partial(_watched, run, arch.it), SIZES, KeptOutcome, same)


def _watched(run: Run, arch: Architecture, load: Workload) -> Outcome:
    """``run(arch, load)``, which says what it asked of its card."""
    card: Any = Watched(load.card)
    out = run(arch, replace(load, card=card))
    out.asked = card.asked
    return out


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes say the same, down to who holds each peak."""
    for m in (*one.moments, *other.moments):
        m.buffers()
    return one == other


class KeptOutcome:
    """An outcome of the slots of its record."""

    def __init__(self, single: Single, out: Outcome) -> None:
        from estimator.sweep.ints import total

        self.single, self.total = single, total
        self.logs: dict[int, KeptLog] = {}
        self.moments = [(m.key, m.label, single.of(m.peak), single.of(m.end), self._live(m.live)) for m in out.moments]
        self.states = [single.of(x) for x in (out.weights, out.states, out.gradients)]
        self.base, self.trained, self.rest = self._sums(out.base), out.trained, (out.unmet, out.operations, out.asked)

    def __call__(self, v: Slots) -> Outcome:
        total = self.total
        moments = [Moment(key, label, total(peak, v), total(end, v), partial(live, v))
                   for key, label, peak, end, live in self.moments]  # fmt: skip
        weights, states, gradients = (total(x, v) for x in self.states)
        base = self._filled(self.base, v)
        return Outcome(moments, weights, states, gradients, self.trained, base, *self.rest)

    def _sums(self, live: Mapping[tuple[str, str], Any]) -> Sums:
        return {label: self.single.of(x) for label, x in live.items()}

    def _filled(self, sums: Sums, v: Slots) -> Live:
        return {label: self.total(x, v) for label, x in sums.items()}

    def _live(self, live: Any) -> Callable[[Slots], Live]:
        """Who holds a moment: a place of a log with what stands and what is beside it, or sums by their names."""
        if not isinstance(live, Alive):
            return partial(self._filled, self._sums(live() if callable(live) else live))
        log = self.logs.get(id(live.log))
        if log is None:
            log = self.logs[id(live.log)] = KeptLog(self.single, live.log)
        return partial(self._living, self._sums(live.base), log.places(live.top), self._sums(live.more))

    def _living(self, base: Sums, held: Callable[[Slots], Live], more: Sums, v: Slots) -> Live:
        return self._filled(base, v) | held(v) | self._filled(more, v)


class KeptLog:
    """A log whose sizes are sums of slots: who is alive at a place follows from which of them are equal, and is kept
    for that."""

    def __init__(self, single: Single, log: list[Any]) -> None:
        self.single = single
        self.sizes: dict[Sum, int] = {}
        self.entries = [
            (single.of(sign), [(s, self._record(r)) for s, r in what]) if type(what) is list
            else (sign, self._record(what)) for sign, what in log
        ]  # fmt: skip
        self.known: dict[Any, list[tuple[tuple[str, str], int, int]]] = {}

    def _record(self, record: tuple[Any, tuple[str, str]]) -> tuple[int, tuple[str, str]]:
        return self.sizes.setdefault(self.single.of(record[0]), len(self.sizes)), record[1]

    def places(self, top: Any) -> Callable[[Slots], Live]:
        """Who is alive at ``top``: a place, or the first of those that may be the peak that is it."""
        from estimator.sweep.number import terms_of

        of = self.single.of
        found: list[tuple[Any, Any]] = [(0, top)] if top is None or isinstance(top, tuple) else top.found
        chain = self.single.chain([terms_of(level) for level, _ in found])
        places: list[Any] = []
        for _, at in found:
            if at is None:
                places.append(None)
                continue
            rounds, left = at[1] if isinstance(at[1], tuple) else (at[1], at[1])
            places.append((at[0], of(rounds), of(left), at[2]))
        return partial(self._alive, chain, places)

    def _alive(self, chain: list[Sum], places: list[Any], v: Slots) -> Live:
        from estimator.sweep.ints import levels, total

        reached = levels(chain, v)
        place = places[reached.index(max(reached))]
        if place is None:
            return {}
        before, rounds, left, within = place
        at = before, total(rounds, v) if total(left, v) > 0 else 0, within
        sizes = [total(x, v) for x in self.sizes]
        first: dict[int, int] = {}
        alike = tuple([first.setdefault(size, i) for i, size in enumerate(sizes)])
        times = tuple([total(sign, v) for sign, what in self.entries if type(what) is list])
        held = self.known.get((at, alike, times))
        if held is None:
            if len(self.known) >= MOST_PLACES:
                self.known.clear()
            held = self.known[at, alike, times] = self._held(at, alike, iter(times))
        out: Live = {}
        for label, i, count in held:
            out[label] = out.get(label, 0) + count * sizes[i]
        return {label: size for label, size in out.items() if size != 0}

    def _held(self, at: At, alike: tuple[int, ...], times: Iterator[int]) -> list[tuple[tuple[str, str], int, int]]:
        """(label, number of a size, how many) of all buffers alive at a place, where these sizes are alike."""
        entries: list[Any] = self.entries
        log: list[Any] = [
            (next(times), [(s, (alike[i], label)) for s, (i, label) in what]) if type(what) is list
            else (sign, (alike[what[0]], what[1])) for sign, what in entries
        ]  # fmt: skip
        return [(label, i, count) for (label, i), (count, _) in holders(log, at).items() if count != 0]
