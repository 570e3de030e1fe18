"""Small plots: a :class:`Figure` drawn in the terminal, as SVG, or as PNG (matplotlib, an optional extra).

A figure is data: axes, series of points and marks. The three drawers share scales and ticks, which are here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from estimator.errors import InputError
from estimator.records import dataclass

PICTURES = (".svg", ".png", ".pdf")
# Okabe and Ito 2008, colours that the colour-blind tell apart; black is kept for the axes and the emphasised line
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#6A51A3")
BAR = 0.7  # of the distance between two places
FILLED = ("bar", "area")
INK, GREY, GRID = "#222222", "#8a8f98", "#e6e8eb"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its label with the unit, its range, and whether it is logarithmic; ``names`` of the places 1, 2, ..."""

    label: str
    low: float
    high: float
    log: bool = True
    names: tuple[str, ...] = ()

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end, beyond outside; nan if nowhere."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low) if value > 0 else math.nan
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 7) -> list[tuple[float, str]]:
        """Round values in the range with their labels; the named places where there are names."""
        if self.names:
            return [(float(i), name) for i, name in enumerate(self.names, 1)]
        return _log_ticks(self, most) if self.log else _linear_ticks(self, most)


@dataclass(frozen=True, slots=True)
class Series:
    """Points in order. ``kind``: line, dash, dot, ring, bar or area. ``tag``: a short label at its last visible point.

    base: where each bar begins, or the lower edge of an area, for those that stand on others.

    ``colour`` indexes COLOURS; None is ink, -1 is grey. An empty ``label`` keeps it out of the legend.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    kind: str = "line"
    colour: int | None = 0
    tag: str = ""
    width: float = 1.6
    base: Sequence[float] = ()

    def scaled(self, unit: float) -> Series:
        """The same in another unit."""
        return replace(self, y=[y / unit for y in self.y], base=[y / unit for y in self.base])

    @property
    def paint(self) -> str:
        return INK if self.colour is None else GREY if self.colour < 0 else COLOURS[self.colour % len(COLOURS)]


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot: title, axes, series; ``note`` is a line of small print below."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...] = field(default_factory=tuple)
    note: str = ""

    @property
    def legend(self) -> tuple[Series, ...]:
        return tuple(s for s in self.series if s.label)


def readable(figure: Figure) -> Figure:
    """The figure with control characters of other people's texts shown, not drawn."""
    from estimator.render.streams import escaped

    def axis(a: Axis) -> Axis:
        return replace(a, label=escaped(a.label), names=tuple(map(escaped, a.names)))

    return replace(
        figure, title=escaped(figure.title), note=escaped(figure.note), x=axis(figure.x), y=axis(figure.y),
        series=tuple(replace(s, label=escaped(s.label), tag=escaped(s.tag)) for s in figure.series),
    )  # fmt: skip


def clip(figure: Figure, series: Series) -> list[list[tuple[float, float]]]:
    """The series in the unit square: pieces of a line cut at the frame, or single points inside it."""
    if series.kind == "bar":
        return [[(left, top), (right, top)] for left, right, _, top in bars(figure, series)]
    if series.kind == "area":
        return [edges(figure, series)[1]]
    points = [(figure.x.place(a), figure.y.place(b)) for a, b in zip(series.x, series.y, strict=True)]
    if series.kind in ("dot", "ring"):
        return [[p] for p in points if 0 <= p[0] <= 1 and 0 <= p[1] <= 1]
    pieces: list[list[tuple[float, float]]] = []
    for p, q in pairwise(points):
        cut = _cut(p, q)
        if cut is None:
            continue
        if pieces and pieces[-1][-1] == cut[0]:
            pieces[-1].append(cut[1])
        else:
            pieces.append(list(cut))
    return pieces


def bars(figure: Figure, series: Series) -> list[tuple[float, float, float, float]]:
    """The bars of a series in the unit square: (left, right, bottom, top)."""
    base = series.base or [figure.y.low] * len(series.x)
    return [
        (figure.x.place(x - BAR / 2), figure.x.place(x + BAR / 2), figure.y.place(low), min(1.0, figure.y.place(high)))
        for x, low, high in zip(series.x, base, series.y, strict=True)
    ]


def edges(figure: Figure, series: Series) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The lower and the upper edge of an area in the unit square, left to right."""
    base = series.base or [figure.y.low] * len(series.x)
    lower, upper = (
        [(figure.x.place(x), min(1.0, figure.y.place(y))) for x, y in zip(series.x, ys, strict=True)]
        for ys in (base, series.y)
    )
    return lower, upper


def _cut(p: tuple[float, float], q: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The part of a segment inside the unit square (Liang and Barsky 1984), or None."""
    if not all(map(math.isfinite, (*p, *q))):
        return None
    dx, dy = q[0] - p[0], q[1] - p[1]
    start, end = 0.0, 1.0
    for step, room in ((-dx, p[0]), (dx, 1 - p[0]), (-dy, p[1]), (dy, 1 - p[1])):
        if step == 0:
            if room < 0:
                return None
        elif step < 0:
            start = max(start, room / step)
        else:
            end = min(end, room / step)
    if start > end:
        return None
    first = p if start == 0 else (p[0] + start * dx, p[1] + start * dy)
    last = q if end == 1 else (p[0] + end * dx, p[1] + end * dy)
    return first, last


def _log_ticks(axis: Axis, most: int) -> list[tuple[float, str]]:
    low, high = math.log10(axis.low), math.log10(axis.high)
    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    if len(decades) >= 3:
        step = 1 + (len(decades) - 1) // most
        return [(10.0**k, power(k)) for k in decades if (k - decades[0]) % step == 0]
    inside: list[float] = []
    for leads in ((1, 2, 5), range(1, 10)):
        steps = [m * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for m in leads]
        inside = [v for v in steps if axis.low * (1 - 1e-9) <= v <= axis.high * (1 + 1e-9)]
        if len(inside) >= 3:
            break
    return [(v, plain(v)) for v in inside]


def _linear_ticks(axis: Axis, most: int) -> list[tuple[float, str]]:
    raw = (axis.high - axis.low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * 0.999)
    first = math.ceil(axis.low / step - 1e-9)
    count = math.floor(axis.high / step + 1e-9) - first
    places = max(0, -math.floor(math.log10(step)) + (1 if step / size == 2.5 else 0))
    return [
        (
            (first + i) * step,
            f"{(first + i) * step:.{places}f}".replace("-0.0", "0.0")
            if first + i == 0
            else f"{(first + i) * step:.{places}f}",
        )
        for i in range(count + 1)
    ]


def power(exponent: int) -> str:
    """``10²¹``."""
    return "1" if exponent == 0 else "10" if exponent == 1 else "10" + str(exponent).translate(_SUPERSCRIPT)


def plain(value: float) -> str:
    """A tick below three decades: ``0.5``, ``20``, ``2×10²¹``."""
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    lead = round(value / 10.0**exponent)
    return power(exponent) if lead == 1 else f"{lead}×{power(exponent)}"


def picture(name: str | None) -> bool:
    """True where ``--output`` names a picture."""
    return name is not None and Path(name).suffix.lower() in PICTURES


def draw(figure: Figure, name: str) -> str | bytes:
    """The picture that ``name`` asks for by its suffix: SVG text, or the bytes of a PNG or PDF (needs matplotlib)."""
    if not picture(name):
        raise InputError(f"--output {name[:80]}: pictures are drawn as {', '.join(PICTURES)}")
    if Path(name).suffix.lower() == ".svg":
        drawer: Any = import_module("estimator.render.plots_svg")
        svg: str = drawer.svg(figure)
        return svg
    return png(figure, name)


def terminal(figure: Figure, width: int = 76, height: int = 20) -> str:
    """The figure in braille dots, ``width`` columns wide."""
    drawer: Any = import_module("estimator.render.plots_terminal")
    text: str = drawer.braille(figure, width, height)
    return text


def png(figure: Figure, name: str = "--output") -> bytes:
    """The figure as a PNG of 1600 x 1067 pixels, or as ``name`` ends; InputError where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            f"--output {name}: a PNG or PDF needs matplotlib: pip install 'llmcalc-estimator[plot]'; or write an .svg"
        ) from None
    matplotlib.use("Agg")
    import io

    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 5.33), dpi=200, layout="constrained")
    axes = canvas.subplots()
    for series in figure.series:
        if series.kind == "bar":
            base = list(series.base) or [0.0] * len(series.x)
            heights = [y - b for y, b in zip(series.y, base, strict=True)]
            axes.bar(series.x, heights, BAR, base, color=series.paint, label=series.label or None)
            continue
        if series.kind == "area":
            axes.fill_between(series.x, list(series.base) or 0.0, series.y, color=series.paint,
                              label=series.label or None, linewidth=0)  # fmt: skip
            continue
        line = series.kind in ("line", "dash")
        axes.plot(
            series.x, series.y, color=series.paint, label=series.label or None, linewidth=series.width if line else 0,
            linestyle={"line": "-", "dash": "--"}.get(series.kind, "none"), marker="" if line else "o",
            markersize=max(3.6, 1.4 * series.width),
            markerfacecolor="none" if series.kind == "ring" else series.paint, markeredgewidth=0.9,
        )  # fmt: skip
        pieces = clip(figure, series)
        if series.tag and pieces:
            axes.annotate(
                series.tag,
                pieces[-1][-1],
                xycoords="axes fraction",
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=series.paint,
            )
    for axis, scale, limit, ticks, label in (
        (figure.x, axes.set_xscale, axes.set_xlim, axes.set_xticks, axes.set_xlabel),
        (figure.y, axes.set_yscale, axes.set_ylim, axes.set_yticks, axes.set_ylabel),
    ):
        scale("log" if axis.log else "linear")
        limit(axis.low, axis.high)
        values = axis.ticks()
        ticks([v for v, _ in values], [t for _, t in values])
        label(axis.label, fontsize=9.5)
    axes.minorticks_off()
    axes.tick_params(labelsize=8.5, color=GREY)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(figure.title, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=14)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if figure.legend:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.06, 0.5))
    if figure.note:
        canvas.supxlabel(figure.note, fontsize=7.5, color=GREY, x=0.01, ha="left")
    out = io.BytesIO()
    kind = "pdf" if name.lower().endswith(".pdf") else "png"
    canvas.savefig(out, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {"Software": None})
    return out.getvalue()
