"""Requests that arrive while others are served: how long the first token waits, and how far apart the next ones come.

An engine runs steps. A step of c sequences takes D seconds; a prompt that arrives joins the next step and adds x
seconds to it (it shares the step's reading of the weights). With lambda prompts a second a step takes
D / (1 - lambda x) in the mean; a newcomer waits for the rest of the running step, a long one more likely than a short
one, and then for a step with its own prompt and those that arrived with it. Arrivals are Poisson; how many sequences
there are follows from Little's law.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import accumulate
from math import inf, sqrt

from estimator.alike import exp, lgamma, log
from estimator.errors import InputError
from estimator.records import NamedTuple, dataclass
from estimator.report import Node
from estimator.units import MILLION, PERCENT, RATIO, SECONDS, TOKEN_RATE, USD

POINTS = 16  # of the rest of a step, for percentiles
SPREAD = 8  # standard deviations of a number of prompts that are looked at
NEAR = 1e-6
NORMAL_99 = 2.3263  # of the normal distribution
SHARES = (("p50", "median", 0.5), ("p90", "9 of 10 are faster", 0.9), ("p99", "99 of 100 are faster", 0.99))
HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Arriving:
    """Prompts that join the steps of an engine.

    rate     a second; step: seconds of a step without a prompt; prompt: seconds that one adds
    server   seconds between a request and its first step; steps: that a prompt takes (one a chunk)
    ahead    steps that are scheduled already when a request comes, or that its token waits for on its way out
    """

    rate: float
    step: float
    prompt: float
    server: float = 0.0
    steps: float = 1.0
    ahead: float = 0.0

    @property
    def busy(self) -> float:
        """The share of the time that prompts take; at 1 the steps never end."""
        return self.rate * self.prompt

    @property
    def between(self) -> float:
        """Seconds of a step in the mean, prompts included: between two tokens of a sequence."""
        return self.step / (1 - self.busy)

    @property
    def rest(self) -> float:
        """Seconds that are left of the running step, as a newcomer finds it."""
        return (self.between + self.prompt**2 * self.rate / (1 - self.busy**2)) / 2

    @property
    def _joining(self) -> list[tuple[int, float]]:
        """(prompts of a step, its probability): a long step is followed by many, wider than Poisson's."""
        mean = self.rate * self.between
        return _counts(mean, mean / (1 - self.busy**2))

    @property
    def first(self) -> float:
        """Seconds to a request's first token, in the mean."""
        with_me = 2 * self.rest * self.rate
        waits = self.rest + self.between * self.ahead
        return self.server + waits + self.step * self.steps + self.prompt * (1 + with_me)

    def request(self, new: float) -> float:
        """Seconds of a request of ``new`` tokens, in the mean."""
        return self.first + (new - 1) * self.between

    def slow_request(self, new: float) -> float:
        """Seconds within which 99 of 100 requests end: the steps' sum is taken to be normal."""
        spread = self.prompt * sqrt(self.rate * self.between) / (1 - self.busy)  # of a sum of steps, by its root
        return self.request(new) + NORMAL_99 * spread * sqrt(max(0.0, new - 1))

    def between_within(self, *shares: float) -> list[float]:
        """Seconds between two tokens that each share of the gaps does not exceed."""
        return _quantiles([(p, self.step + n * self.prompt) for n, p in self._joining], shares)

    def first_within(self, *shares: float) -> list[float]:
        """Seconds to the first token that each share of the requests does not exceed."""
        found = []
        own = self.server + self.between * self.ahead + self.step * self.steps + self.prompt
        for n, p in self._joining:
            running = self.step + n * self.prompt
            met = p * running / self.between / POINTS
            for m, q in _counts(self.rate * running, self.rate * running):
                found += [(met * q, own + m * self.prompt + running * (i + 0.5) / POINTS) for i in range(POINTS)]
        return _quantiles(found, shares)


def _counts(mean: float, variance: float) -> list[tuple[int, float]]:
    """(number, its probability) of what is worth looking at: negative binomial, Poisson's where both are equal."""
    far = SPREAD * sqrt(variance) + SPREAD
    low, high = max(0, int(mean - far)), int(mean + far)
    if mean <= 0:
        return [(0, 1.0)]
    if variance <= mean * (1 + NEAR):
        return [(n, exp(n * log(mean) - mean - lgamma(n + 1))) for n in range(low, high + 1)]
    r, p = mean**2 / (variance - mean), mean / variance
    return [
        (n, exp(lgamma(n + r) - lgamma(r) - lgamma(n + 1) + r * log(p) + n * log(1 - p))) for n in range(low, high + 1)
    ]


def _quantiles(found: list[tuple[float, float]], shares: tuple[float, ...]) -> list[float]:
    """Of (weight, value): the value that each share of the weight does not exceed."""
    found = sorted(found, key=lambda x: x[1])
    reached = list(accumulate(p for p, _ in found))
    return [found[min(bisect_left(reached, share * reached[-1]), len(found) - 1)][1] for share in shares]


class ReplicaRoom(NamedTuple):
    """Sequences that a replica holds, how many replicas there are, and USD a second of all of them."""

    held: float
    replicas: int
    usd: float | None


def arrivals(beside: Callable[[int], Arriving], rate: float, new: int, room: ReplicaRoom) -> Node:
    """Requests of ``new`` tokens that arrive ``rate`` a second: how many are there at once, and how long they take.

    beside: the steps of a replica by the sequences that decode in them. InputError for a rate that is none.
    """
    if not 0 < rate < inf:
        raise InputError(f"--rate must be above 0 requests a second, got {rate:g}")
    steps = cache(beside)

    def at(sequences: float, arriving: float) -> Arriving:
        found = steps(max(1, round(sequences)))
        return replace(found, rate=arriving, ahead=found.ahead * min(1.0, sequences))  # an idle engine is not ahead

    most = _most(at, new, room.held) * room.replicas
    limit = Node("rate.most", "Requests a second that it can serve", most, RATIO)
    load = Node("rate.utilisation", "Load", 100 * rate / most, PERCENT)
    if rate >= most:
        words = f"{rate:g} requests a second: more than it can serve, the queue grows without end"
        return Node.group(words, [limit, load])
    here = rate / room.replicas
    low, high = 0.0, room.held
    for _ in range(HALVINGS):  # Little's law: as many as arrive while one is served
        middle = (low + high) / 2
        found = at(middle, here)
        low, high = (middle, high) if found.busy < 1 and here * found.request(new) > middle else (low, middle)
    found = at(high, here)
    tokens = rate * new
    rows = [
        Node("rate.sequences", "Sequences at once", high * room.replicas, RATIO), load,
        *_percentiles("rate.itl_seconds", "Between tokens", found.between, found.between_within),
        *_percentiles("rate.ttft_seconds", "First token", found.first, found.first_within),
        Node("rate.request_seconds", "A whole request, mean", found.request(new), SECONDS),
        Node("rate.request_seconds.p99", "99 of 100 are faster", found.slow_request(new), SECONDS),
        Node("rate.tokens_per_second", "Generated tokens a second", tokens, TOKEN_RATE),
    ]  # fmt: skip
    if room.usd is not None:
        cost = room.usd * MILLION / tokens
        rows.append(Node("rate.usd_per_million_tokens", "A million generated tokens at this rate", cost, USD))
    return Node.group(f"{rate:g} requests a second", [*rows, limit])


def _percentiles(key: str, label: str, mean: float, within: Callable[..., list[float]]) -> list[Node]:
    found = within(*(share for _, _, share in SHARES))
    rows = [Node(f"{key}.{name}", words, x, SECONDS) for (name, words, _), x in zip(SHARES, found, strict=True)]
    return [Node(key, f"{label}, mean", mean, SECONDS), *rows]


def _most(at: Callable[[float, float], Arriving], new: int, held: float) -> float:
    """Requests a second at which a replica's places are all taken."""
    held = max(1.0, held)
    alone = at(held, 0.0)
    low, high = 0.0, held / (new * alone.step)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = at(held, middle)
        low, high = (middle, high) if found.busy < 1 and middle * found.request(new) < held else (low, middle)
    return low
