"""Predictions beside measurements as pictures: one against the other, and the error beside the size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from estimator.errors import InputError
from estimator.units import KIBI

if TYPE_CHECKING:
    from estimator.render.plots import Figure

GIB = KIBI**3
Pairs = Sequence[tuple[float, float]]  # (predicted, measured) of each case


def against(title: str, found: Mapping[str, Pairs], unit: str, size: float = 1.0) -> Figure:
    """Predicted against measured, a colour a group, with the line on which both are equal; ``size`` of a unit."""
    from estimator.render.plots import Axis, Figure, Series

    every = [x / size for pairs in found.values() for pair in pairs for x in pair]
    low, high = min(every) / 1.3, max(every) * 1.3
    series = [Series("equal", [low, high], [low, high], "line", -1, "", 1.2)]
    for i, (name, pairs) in enumerate(found.items()):
        series.append(Series(name, [m / size for _, m in pairs], [p / size for p, _ in pairs], "ring", i))
    axes = Axis(f"measured, {unit}", low, high), Axis(f"predicted, {unit}", low, high)
    return Figure(title, *axes, tuple(series))


def errors(title: str, found: Mapping[str, Pairs], unit: str, size: float = 1.0) -> Figure:
    """The error in percent beside what was measured, a colour a group. InputError where nothing was measured."""
    from estimator.render.plots import Axis, Figure, Series

    points = {name: [(m / size, 100 * (p / m - 1)) for p, m in pairs if m] for name, pairs in found.items()}
    if not any(points.values()):
        raise InputError("no case has a prediction and a measurement: nothing to draw")
    sizes = [x for at in points.values() for x, _ in at]
    most = 1.1 * max(abs(e) for at in points.values() for _, e in at) or 1.0
    axes = Axis(f"measured, {unit}", min(sizes) / 1.2, max(sizes) * 1.2), Axis("error, %", -most, most, log=False)
    series = [Series("", [axes[0].low, axes[0].high], [0, 0], "line", -1, "", 1.2)]
    for i, (name, at) in enumerate(points.items()):
        series.append(Series(name, [x for x, _ in at], [e for _, e in at], "ring" if i < 8 else "dot", i))
    return Figure(title, *axes, tuple(series))
