"""Figures of a scaling law: iso-loss contours, iso-FLOP curves, frontiers, a fit and its residuals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from estimator.chinchilla import laws, solve
from estimator.chinchilla.laws import Law
from estimator.chinchilla.runs import TrainingRun
from estimator.errors import InputError, unknown
from estimator.render.plots import Axis, Figure, Series

KINDS = ("contours", "isoflop", "frontier", "ratio")
FIT_KINDS = ("fit", "residuals", "contours", "isoflop")
_POINTS = 160
_DECADES = 3  # shown on either side of the budget
_LEVELS = 9
_CURVES = 5
Point = tuple[float, float, str]


def check(kind: str, kinds: Sequence[str], law: Law | None = None) -> str:
    """``kind`` if it is one; InputError otherwise, or where the law has no loss to draw."""
    if kind not in kinds:
        raise unknown("--plot", kind, kinds)
    if law is not None and kind in ("contours", "isoflop") and law.parametric is None:
        raise InputError(
            f"--plot {kind} needs a law with a loss of N and D; {law.id} is a frontier only. Use frontier or ratio"
        )
    return kind


def logspace(low: float, high: float, count: int = _POINTS) -> list[float]:
    """``count`` values from ``low`` to ``high``, evenly spaced by their logarithms."""
    step = math.log(high / low) / (count - 1)
    return [low * math.exp(i * step) for i in range(count)]


def contours(
    law: Law, low: float, high: float, runs: Sequence[TrainingRun] = (), marks: Sequence[Point] = ()
) -> Figure:
    """Iso-loss lines over compute and parameters, with the frontier (Hoffmann et al. 2022, Figure 4, left)."""
    assert law.parametric is not None
    n_low, n_high = law.n_opt(low) / 8, law.n_opt(high) * 8
    if runs:
        n_low, n_high = min(n_low, *(r.N / 1.5 for r in runs)), max(n_high, *(r.N * 1.5 for r in runs))
    series = []
    p = law.parametric
    for level in levels(law, low, high, max((r.loss for r in runs), default=0)):
        least = (p.A / (level - p.E)) ** (1 / p.alpha)  # fewer parameters never reach this loss; crowd the points there
        sizes = [least * (1 + t) for t in logspace(1e-9, max(n_high / least, 1), 3 * _POINTS)]
        pairs = [(law.C0 * n * solve.tokens_for_loss(law.parametric, n, level), n) for n in sizes]
        pairs = [(c, n) for c, n in pairs if c < math.inf]
        series.append(Series("", [c for c, _ in pairs], [n for _, n in pairs], "line", -1, f"{level:.2f}", 1.1))
    budgets = logspace(low, high)
    series.append(Series("compute-optimal", budgets, [law.n_opt(c) for c in budgets], "line", None, "", 2.2))
    if runs:
        series.append(Series("runs", [r.C for r in runs], [r.N for r in runs], "dot", 0))
    series += [Series(label, [x], [y], "dot", 1 + i, "", 5) for i, (x, y, label) in enumerate(marks)]
    return Figure(
        f"Iso-loss contours, {law.label}",
        Axis("training FLOPs", low, high),
        Axis("parameters", n_low, n_high),
        tuple(series),
        "thin lines: equal loss, in nats a token",
    )


def levels(law: Law, low: float, high: float, most: float = 0) -> list[float]:
    """Losses for contours, evenly spaced by the logarithm of what is above the irreducible loss."""
    p = law.parametric
    assert p is not None
    top = max(law.frontier_loss(low) - p.E, min(most - p.E, 4 * (law.frontier_loss(low) - p.E)))
    return [p.E + v for v in logspace(law.frontier_loss(high) - p.E, top * 1.3, _LEVELS)]


def isoflop(law: Law, low: float, high: float, runs: Sequence[TrainingRun] = ()) -> Figure:
    """Loss against parameters at fixed budgets, their minima joined (Hoffmann et al. 2022, Figure 4, right)."""
    budgets = logspace(low, high, _CURVES)
    n_low, n_high = law.n_opt(low) / 10, law.n_opt(high) * 10
    sizes = logspace(n_low, n_high)
    best = [(law.n_opt(c), law.frontier_loss(c)) for c in logspace(low, high)]
    floor, ceiling = best[-1][1], best[0][1]
    series = []
    for i, c in enumerate(budgets):
        label = _flops(c)
        series.append(Series(label, sizes, [law.loss(n, c / (law.C0 * n)) for n in sizes], "line", i))
        near = [r for r in runs if abs(math.log(r.C / c)) < 0.5 * math.log(budgets[1] / budgets[0])]
        if near:
            series.append(Series("", [r.N for r in near], [r.loss for r in near], "dot", i))
    series.append(Series("optimum", [n for n, _ in best], [v for _, v in best], "dash", None))
    span = ceiling - floor
    y = Axis("loss, nats a token", floor - 0.12 * span, ceiling + 0.55 * span, log=False)
    note = "dots: runs, in the colour of the nearest budget" if runs else ""
    return Figure(f"Iso-FLOP curves, {law.label}", Axis("parameters", n_low, n_high), y, tuple(series), note)


def _flops(value: float) -> str:
    return f"{value:.1e} FLOPs".replace("e+", "e")


def frontiers(low: float, high: float, ratio: bool, own: Law | None = None) -> Figure:
    """Optimal parameters, or tokens a parameter, against compute: every law with its default coefficients."""
    chosen = [laws.load(name) for name in laws.names()]
    if own is not None:
        chosen = [law for law in chosen if law.label != own.label] + [own]
    budgets = logspace(low, high)
    series = []
    for i, law in enumerate(chosen):
        value = [law.d_opt(c) / law.n_opt(c) if ratio else law.n_opt(c) for c in budgets]
        emphasis = own is not None and law.label == own.label
        series.append(
            Series(
                law.label,
                budgets,
                value,
                "line" if i < 8 else "dash",
                None if emphasis else i,
                "",
                2.4 if emphasis else 1.6,
            )
        )
    values = [v for s in series for v in s.y]
    label = "tokens a parameter" if ratio else "optimal parameters"
    title = "Optimal tokens a parameter, law by law" if ratio else "Compute-optimal frontier, law by law"
    return Figure(
        title, Axis("training FLOPs", low, high), Axis(label, min(values) / 1.3, max(values) * 1.3), tuple(series)
    )


def of_law(kind: str, law: Law, C: float, marks: Sequence[Point] = ()) -> Figure:
    """The figure of one kind around a budget of ``C`` FLOPs."""
    low, high = C / 10**_DECADES, C * 10 ** (_DECADES - 1)
    if kind == "contours":
        return contours(law, low, high, marks=marks)
    if kind == "isoflop":
        return isoflop(law, C / 100, C * 100)
    return frontiers(low, high, kind == "ratio", law)


def of_fit(kind: str, law: Law, kept: Sequence[TrainingRun], left: Sequence[TrainingRun]) -> Figure:
    """The figure of one kind of a law fitted to runs."""
    assert law.parametric is not None
    low, high = min(r.C for r in kept) / 1.6, max(r.C for r in kept) * 1.6
    if kind == "contours":
        return contours(law, low, high, kept)
    if kind == "isoflop":
        return isoflop(law, low * 1.6, high / 1.6, kept)
    return parity(law, kept, left) if kind == "fit" else residuals(law, kept, left)


def parity(law: Law, kept: Sequence[TrainingRun], left: Sequence[TrainingRun]) -> Figure:
    """Predicted against measured loss."""
    every = [*kept, *left]
    values = [r.loss for r in every] + [law.loss(r.N, r.D) for r in every]
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) or 0.1
    axis = (low - pad, high + pad)
    series = [Series("prediction = run", list(axis), list(axis), "line", -1, "", 1.2)]
    series += _dots(kept, left, lambda r: r.loss, lambda r: law.loss(r.N, r.D))
    return Figure(
        "The fit: predicted against measured loss",
        Axis("measured loss, nats a token", *axis, log=False),
        Axis("predicted loss, nats a token", *axis, log=False),
        tuple(series),
    )


def residuals(law: Law, kept: Sequence[TrainingRun], left: Sequence[TrainingRun]) -> Figure:
    """What the fit leaves over, in percent of the loss, against tokens a parameter."""

    def off(r: TrainingRun) -> float:
        return float(100 * math.log(r.loss / law.loss(r.N, r.D)))

    every = [*kept, *left]
    ratios = [r.D / r.N for r in every]
    reach = 1.15 * max(max(abs(off(r)) for r in kept), 0.1)
    outside = sum(abs(off(r)) > reach for r in left)
    x = Axis("tokens a parameter", min(ratios) / 1.3, max(ratios) * 1.3)
    series = [Series("", [x.low, x.high], [0, 0], "line", -1, "", 1.2), *_dots(kept, left, lambda r: r.D / r.N, off)]
    note = f"{outside} of the runs left out are beyond the frame" if outside else ""
    return Figure(
        "Residuals of the fit", x, Axis("log(loss / prediction), %", -reach, reach, log=False), tuple(series), note
    )


def _dots(kept: Sequence[TrainingRun], left: Sequence[TrainingRun], x: object, y: object) -> list[Series]:
    fx, fy = x, y
    assert callable(fx)
    assert callable(fy)
    out = [Series("runs fitted", [fx(r) for r in kept], [fy(r) for r in kept], "dot", 0)]
    if left:
        out.append(Series("runs left out", [fx(r) for r in left], [fy(r) for r in left], "ring", 1))
    return out
