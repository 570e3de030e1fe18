"""Latency against throughput: a point for each number of sequences at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from estimator.errors import InputError
from estimator.records import NamedTuple

if TYPE_CHECKING:
    from estimator.render.plots import Figure


class AtOnce(NamedTuple):
    """How fast a number of sequences at once is served: generated tokens a second, seconds a token of each."""

    sequences: int
    rate: float
    seconds: float


def doubling(most: int) -> list[int]:
    """1, 2, 4 ... and ``most``."""
    return [*(2**k for k in range(max(0, most).bit_length()) if 2**k < most), *([most] if most > 0 else [])]


def latency(title: str, points: Sequence[AtOnce], x: str, y: str, note: str) -> Figure:
    """The curve through the points, each with its sequences beside it. x, y: the axes; note: what the numbers are."""
    from estimator.render.plots import Axis, Figure, Series

    if not points:
        raise InputError("--plot: nothing is served here: not one sequence fits")
    xs, ys = [p.rate for p in points], [1e3 * p.seconds for p in points]
    dots = [Series("", [a], [b], "dot", 0, f"{p.sequences:,}") for p, a, b in zip(points, xs, ys, strict=True)]
    axes = Axis(x, min(xs) / 1.2, max(xs) * 1.3), Axis(y, 0.0, 1.12 * max(ys), log=False)
    return Figure(title, *axes, (Series("", xs, ys, "line", 0), *dots), note)
