"""The cache's growth with the context, drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from estimator.units import BYTES, byte_unit, human

if TYPE_CHECKING:
    from estimator.render.plots import Figure

POINTS = 64


def figure(
    name: str, cache: Callable[[int], int], tokens: int, most: int | None, free: int | None, longest: int | None = None
) -> Figure:
    """Bytes against tokens up to ``most`` (the model's maximum, or twice what was asked); ``free`` bytes as a line.

    longest: the longest context that fits, where the line is crossed; the picture shows that point too.
    """
    from estimator.render.plots import Axis, Figure, Series

    end = max(tokens, most or 2 * tokens, round(1.1 * (longest or 0)), 2)
    xs = sorted({max(1, round(end * i / POINTS)) for i in range(1, POINTS + 1)})
    size = [cache(x) for x in xs]
    unit, word = byte_unit(size[-1])
    top = max(size[-1], free if free is not None and free < 4 * size[-1] else 0) * 1.05 / unit
    label = f"KV cache of {name}" if free is None else f"{name}: cache and workspace"
    series = [Series(label, xs, [v / unit for v in size], "line", 0)]
    if free is not None and free / unit <= top:
        series.append(Series(f"free: {human(free, BYTES)}", [xs[0], end], [free / unit, free / unit], "dash", 1))
    series.append(Series(f"asked: {tokens:,} tokens", [tokens], [cache(tokens) / unit], "dot", 0, "", 5))
    if longest and free is not None:
        series.append(Series(f"longest: {longest:,} tokens", [longest], [cache(longest) / unit], "dot", 1, "", 5))
    return Figure(
        f"Growth with the context: KV cache of {name}",
        Axis("tokens a sequence", 0, float(end), log=False),
        Axis(f"KV cache, {word}" if free is None else f"cache and workspace, {word}", 0, top, log=False),
        tuple(series),
    )
