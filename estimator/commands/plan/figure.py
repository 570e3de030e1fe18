"""The ways of a plan as points: what each costs and how fast it is, and those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from estimator.errors import InputError
from estimator.records import NamedTuple

if TYPE_CHECKING:
    from estimator.commands.plan.search import Way
    from estimator.render.plots import Figure


class PlanAxes(NamedTuple):
    """What the two axes of a plan's picture are called."""

    hours: str = "hours"
    usd: str = "USD"


def points(title: str, ordered: Sequence[Way], border: int, axes: PlanAxes) -> Figure:
    """Hours against dollars; of ``ordered`` the first ``border`` are on the border."""
    from estimator.render.plots import Axis, Figure, Series

    best, others = (
        [(r.cost, r.hours, f"{r.gpus:,} x {r.gpu}") for r in rows if r.usd is not None]
        for rows in (ordered[:border], ordered[border:])
    )
    found = [*best, *others]
    if not found:
        raise InputError("--plot: no layout that fits has a price")
    xs, ys = [p[0] for p in found], [p[1] for p in found]
    series = [Series("beaten in both", [p[0] for p in others], [p[1] for p in others], "ring", -1)] if others else []
    if len(best) > 1:
        series.append(Series("", [p[0] for p in best], [p[1] for p in best], "line", None))
    series += [Series(name, [usd], [hours], "dot", i, "", 5) for i, (usd, hours, name) in enumerate(best)]
    return Figure(
        title, Axis(axes.usd, min(xs) / 1.3, max(xs) * 1.3), Axis(axes.hours, min(ys) / 1.3, max(ys) * 1.3),
        tuple(series), "line: nothing is both faster and cheaper",
    )  # fmt: skip
