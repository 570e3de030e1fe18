"""The moments of a step as a stacked area: who holds the memory at each, the peak, and what the card has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.trace import value_of
from estimator.units import BYTES, byte_unit, human

if TYPE_CHECKING:
    from estimator.moments import Moment, Outcome
    from estimator.render.plots import Figure

PARTS = 7  # holders that are named; smaller ones are one part


def moments(title: str, outcome: Outcome, have: int | None, card: str) -> Figure:
    """Bytes alive at the peak of each moment, by the part of the model that holds them; ``have``: the card's line."""
    from estimator.render.plots import Axis, Figure, Series

    held = [_by_part(m) for m in outcome.moments]
    most = {part: max(h.get(part, 0) for h in held) for h in held for part in h}
    named = sorted(most, key=lambda part: -most[part])[:PARTS]
    unit, word = byte_unit(max(sum(h.values()) for h in held))
    places = [float(i) for i in range(1, len(held) + 1)]
    low, series = [0.0] * len(held), []
    for colour, part in enumerate([*named, "everything else"]):
        size = [sum(v for k, v in h.items() if (k == part if part in named else k not in named)) for h in held]
        if not any(size):
            continue
        top = [a + b / unit for a, b in zip(low, size, strict=True)]
        series.append(Series(part, places, top, "area", colour, base=low))
        low = top
    peak = max(range(len(low)), key=low.__getitem__)
    label = f"peak: {human(round(low[peak] * unit), BYTES)}"
    series.append(Series(label, [places[peak]], [low[peak]], "dot", None, "", 5))
    high = max(low)
    if have is not None:
        high = max(high, have / unit)
        line = [have / unit] * 2
        series.append(Series(f"{card}: {human(have, BYTES)}", [1, len(held)], line, "dash", None))
    names = tuple(m.label for m in outcome.moments)
    x = Axis("moments of the step", 1, len(held), False, names)
    return Figure(title, x, Axis(f"allocated, {word}", 0, 1.08 * high, False), tuple(series))


def _by_part(moment: Moment) -> dict[str, int]:
    out: dict[str, int] = {}
    for (where, what), size in moment.buffers().items():
        part = where or what
        out[part] = out.get(part, 0) + int(value_of(size))
    return out
