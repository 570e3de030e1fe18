"""What a run amounts to: the most bytes of each phase, and who holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from itertools import chain
from typing import Any

from estimator.optimizers import Trained
from estimator.records import dataclass
from estimator.stack.replay import At, Replay, alive
from estimator.trace import value_of

Live = dict[tuple[str, str], Any]


@dataclass(frozen=True, slots=True)
class Alive:
    """Who is alive at a place of a log, over what stands and beside what the log does not hold: read when asked."""

    base: Live
    log: list[Any]
    top: At | None
    more: Live = field(default_factory=dict)

    def __call__(self) -> Live:
        out = dict(self.base)
        for label, size in chain(alive(self.log, self.top).items(), self.more.items()):
            out[label] = out[label] + size if label in out else size
        return out


@dataclass(slots=True)
class Moment:
    """One phase: the most bytes at once, the bytes at its end, and who holds them at the peak."""

    key: str
    label: str
    peak: Any
    end: Any
    live: Live | Callable[[], Live] = field(default_factory=dict)

    def buffers(self) -> Live:
        """Who holds the peak. Threads may share what is remembered, so ``live`` is looked at once."""
        live = self.live
        if callable(live):
            live = self.live = live()
        return live

    def total(self, traced: bool) -> Any:
        """The peak; in a run that derives, as the sum of its buffers."""
        return sum(self.buffers().values()) if traced else self.peak


@dataclass(slots=True)
class Outcome:
    """All moments of a run, with what stands still: weights, adapters, states, gradients, cache."""

    moments: list[Moment]
    weights: Any
    states: Any = 0
    gradients: Any = 0
    trained: list[Trained] = field(default_factory=list)
    base: Live = field(default_factory=dict)
    unmet: tuple[str, ...] = ()  # adapted modules whose operations no part of the step runs
    operations: int = 0  # recorded for the backward pass: what the run costs
    asked: dict[str, Any] = field(default_factory=dict)  # what the run asked of its card (estimator.stack.kernels)

    @property
    def worst(self) -> Moment:
        return max(self.moments, key=lambda m: value_of(m.peak))

    def __getitem__(self, key: str) -> Moment:
        return next(m for m in self.moments if m.key == key)


def phase(key: str, label: str, log: list[Any], start: int, replay: Replay, base: Live) -> Moment:
    """Replay ``log[start:]`` and name what is alive at its peak."""
    replay.peak, replay.top = replay.level, (start, 0, 0)
    replay.run(log, start)
    return Moment(key, label, replay.peak, replay.level, Alive(base, log, replay.top))
