"""Running a chain: its order, its units, exact values, samples, percentiles, and which assumption matters most.

Point values are exact and need no sampling. Samples are drawn from a generator seeded by the seed and the quantity's
name, so the same seed gives the same bytes, and changing one assumption leaves the draws of the others as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from random import Random
from typing import Any

from estimator.errors import InputError, unknown
from estimator.fermi import arrays
from estimator.fermi.algebra import Dimensions, Exact, Samples, run
from estimator.fermi.model import CELL, Derived, Grid, Quantity, Scenario
from estimator.fermi.numbers import Number
from estimator.fermi.parser import names
from estimator.fermi.ranges import HIGH, LOW, MIDDLE
from estimator.fermi.units import Dim, Measure, dim_text, natural
from estimator.records import dataclass

MAX_SAMPLES = 10_000_000
FEW = 200  # below this many samples a histogram shows them all


@dataclass(frozen=True, slots=True)
class Resolved:
    """A scenario whose formulas and units hold: quantities in an order that can be computed, and a unit for each."""

    scenario: Scenario
    order: tuple[Quantity, ...]
    units: Mapping[str, Measure]


@dataclass(frozen=True, slots=True)
class Swing:
    """What one assumption does to an answer: the answer at its 5th and 95th percentile, all else at its point.

    ``correlation``: Spearman's rank correlation of the assumption's samples with the answer's.
    """

    name: str
    low: float
    high: float
    correlation: float

    @property
    def size(self) -> float:
        """How far the answer moves: as a ratio on a log scale where it stays positive, absolute otherwise."""
        if self.low > 0 and self.high > 0:
            return abs(math.log(self.high) - math.log(self.low))  # their ratio may be no float
        return abs(self.high - self.low)


def resolve(scenario: Scenario) -> Resolved:
    """Order the quantities and check every unit. InputError: an unknown name, a cycle, units that do not match."""
    quantities = scenario.quantities
    graph: dict[str, tuple[str, ...]] = {}
    for q in quantities.values():
        graph[q.name] = names(q.formula) if q.formula is not None else ()
        for other in graph[q.name]:
            if other not in quantities:
                raise unknown("quantity", other, quantities, f"In {scenario.id}: {q.name} = {q.text[:60]}")
    try:
        order = tuple(quantities[n] for n in TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = list(dict.fromkeys(reversed(error.args[1])))
        text = " -> ".join([*circle[:8], "..."] if len(circle) > 8 else [*circle, circle[0]])
        raise InputError(f"{scenario.id}: the formulas go in a circle: {text}") from None
    units: dict[str, Measure] = {}
    for q in order:
        units[q.name] = _unit(q, scenario, units)
    return Resolved(scenario, order, units)


def _unit(q: Quantity, scenario: Scenario, units: Mapping[str, Measure]) -> Measure:
    if q.formula is None:
        assert q.unit is not None
        return q.unit
    where = f"{scenario.id}: {q.name}"
    values = {n: (units[n].dim, None, n) for n in names(q.formula)}
    try:
        dim = run(q.formula, values, Dimensions())[0]
    except InputError as error:
        raise InputError(f"{where} = {q.text[:60]}: {error}") from None
    if q.unit is None:
        return natural(dim)
    same_dimension(q.unit, dim, where)
    return q.unit


def same_dimension(unit: Measure, found: Dim, where: str) -> None:
    """InputError unless a formula's dimension is its unit's."""
    if unit.dim != found:
        spelled = f"{unit.text or 'a plain number'!r} measures {dim_text(unit.dim)}"
        raise InputError(f"{where}: the formula gives {dim_text(found)}, but its unit {spelled}")


def points(resolved: Resolved) -> dict[str, Number]:
    """Every quantity's exact value in base units; InputError that names the step where a formula fails."""
    out: dict[str, Number] = {}
    for q in resolved.order:
        if q.formula is None:
            assert q.point is not None
            out[q.name] = q.point
            continue
        try:
            out[q.name] = run(q.formula, out, Exact())
        except (InputError, OverflowError, ZeroDivisionError) as error:
            why = error if isinstance(error, InputError) else "a number out of range"
            raise InputError(f"{resolved.scenario.id}: {q.name} = {q.text[:60]}: {why}") from None
    return out


def uncertain(resolved: Resolved) -> dict[str, bool]:
    """Names of quantities with a range and of all that depend on one; True where some range has width."""
    out: dict[str, bool] = {}
    for q in resolved.order:
        if q.formula is None:
            if q.range is not None:
                out[q.name] = not q.range.certain
            continue
        above = [out[n] for n in names(q.formula) if n in out]
        if above:
            out[q.name] = any(above)
    return out


class Drawn(dict[str, Any]):
    """Samples by name; ``strata``: of an array that was drawn, one from each, which draw is of which."""

    def __init__(self, values: Mapping[str, Any], strata: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.strata = strata


def samples(resolved: Resolved, count: int, seed: int) -> Drawn:
    """``count`` samples of every quantity that a range of some width reaches, in base units.

    A list each; many of them an array where numpy is there, of the same floats.
    """
    if not 2 <= count <= MAX_SAMPLES:
        raise InputError(f"--samples must be 2 to {MAX_SAMPLES:,} (0: none), got {count}")
    wide = {n for n, w in uncertain(resolved).items() if w}
    many = arrays.wanted(count)
    values: dict[str, Any] = {}
    strata: dict[str, Any] = {}
    exact = points(resolved)
    for q in resolved.order:
        if q.name not in wide:
            values[q.name] = float(exact[q.name])
        elif q.range is not None and many:
            values[q.name], strata[q.name] = arrays.sample(q.range, count, Random(f"{seed}/{q.name}"))
        elif q.range is not None:
            values[q.name] = q.range.sample(count, Random(f"{seed}/{q.name}"))
        else:
            values[q.name] = _sampled(resolved, q, values)
    return Drawn({n: values[n] for n in values if n in wide}, strata)


def _sampled(resolved: Resolved, q: Quantity, values: Mapping[str, Any]) -> Any:
    assert q.formula is not None
    where = f"{resolved.scenario.id}: {q.name} = {q.text[:60]}"
    try:
        plain = not any(hasattr(v, "dtype") for v in values.values())
        out = run(q.formula, values, Samples() if plain else arrays.Arrays())
    except ZeroDivisionError:
        raise InputError(f"{where}: division by zero in a sample; keep the range away from 0") from None
    except (ValueError, OverflowError, TypeError):
        raise InputError(f"{where}: undefined in some samples; narrow the ranges it depends on") from None
    if hasattr(out, "dtype"):
        good = arrays.finite(out)
    else:
        good = all(not isinstance(x, complex) and math.isfinite(x) for x in (out if isinstance(out, list) else [out]))
    if not good:
        raise InputError(f"{where}: undefined in some samples; narrow the ranges it depends on")
    return out


def percentile(ordered: Sequence[float], share: float) -> float:
    """The ``share`` quantile of sorted values, interpolated."""
    at = (len(ordered) - 1) * share
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    first, last = float(ordered[low]), float(ordered[high])
    return min(max(first + (last - first) * (at - low), first), last)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """5th, 50th and 95th percentile."""
    ordered = in_order(values)
    return percentile(ordered, LOW), percentile(ordered, MIDDLE), percentile(ordered, HIGH)


def in_order(values: Any) -> Any:
    """The values sorted: a list, or an array of an array's."""
    if not hasattr(values, "dtype"):
        return sorted(values)
    out = values.copy()
    out.sort()
    return out


def swings(resolved: Resolved, drawn: Drawn, target: str) -> list[Swing]:
    """Every assumption that moves ``target``, the strongest first."""
    exact = points(resolved)
    above = _above(resolved, target)
    found = []
    ranks = _ranks(drawn[target])
    for q in resolved.order:
        if q.range is None or q.name not in drawn or q.name not in above:
            continue
        ends = [_with(resolved, exact, q.name, q.range.quantile(p), target, above) for p in (LOW, HIGH)]
        own = _ranks(drawn[q.name], drawn.strata.get(q.name))
        found.append(Swing(q.name, ends[0], ends[1], _correlation(own, ranks)))
    return sorted(found, key=lambda s: (-s.size, s.name))


def leading_to(resolved: Resolved, wanted: Sequence[str]) -> Scenario:
    """The scenario with only these quantities and what they depend on; its tables are left out."""
    quantities = resolved.scenario.quantities
    for name in wanted:
        if name not in quantities:
            raise unknown("quantity", name, quantities, "In --only")
    keep = _above(resolved, *wanted)
    chosen = {n: q for n, q in quantities.items() if n in keep}
    return replace(resolved.scenario, quantities=chosen, answers=tuple(dict.fromkeys(wanted)), tables=())


def _above(resolved: Resolved, *targets: str) -> set[str]:
    """The targets and everything they depend on."""
    out, todo = set(targets), list(targets)
    while todo:
        formula = resolved.scenario.quantities[todo.pop()].formula
        new = [n for n in (names(formula) if formula is not None else ()) if n not in out]
        out.update(new)
        todo += new
    return out


def _with(
    resolved: Resolved, exact: Mapping[str, Number], name: str, value: float, target: str, above: set[str]
) -> float:
    """The target's value with one assumption changed."""
    values: dict[str, Any] = {n: float(v) for n, v in exact.items()}
    values[name] = value
    for q in resolved.order:
        if q.formula is not None and q.name in above:
            values[q.name] = _sampled(resolved, q, values)
    return float(values[target])


def _ranks(values: Any, strata: Any = None) -> Any:
    """Ranks from 0; equal values share the mean of theirs. Of an array twice as much, as ints."""
    if hasattr(values, "dtype"):
        return arrays.ranks(values, strata)
    out = [0.0] * len(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for i in order[start:end]:
                out[i] = (start + end - 1) / 2
            start = end
    return out


def _correlation(a: Any, b: Any) -> float:
    """Spearman's rho: the correlation of two rankings; 0 where one of them never changes."""
    if hasattr(a, "dtype"):
        return arrays.correlation(a, b)
    mean = (len(a) - 1) / 2
    x, y = [v - mean for v in a], [v - mean for v in b]
    size = math.sqrt(math.fsum(v * v for v in x) * math.fsum(v * v for v in y))
    return math.fsum(i * j for i, j in zip(x, y, strict=True)) / size if size else 0.0


def histogram(values: Sequence[float], bins: int = 12) -> tuple[list[float], list[int]]:
    """Edges and counts over the middle 98% of ``values``; logarithmic where they are positive and span a decade."""
    ordered = in_order(values)
    cut = 0.01 if len(ordered) >= FEW else 0.0
    low, high = percentile(ordered, cut), percentile(ordered, 1 - cut)
    if low == high:
        return [low, high], [len(values)]
    if low > 0 and math.log(high) - math.log(low) > math.log(10):
        step = (math.log(high) - math.log(low)) / bins
        edges = [low * math.exp(step * i) for i in range(bins)] + [high]
    else:
        edges = [low + (high - low) * i / bins for i in range(bins)] + [high]
    if hasattr(ordered, "dtype"):
        return edges, arrays.counts(ordered, edges)
    counts, at = [0] * bins, 0
    for v in ordered:
        if v < low or v > high:
            continue
        while at < bins - 1 and v >= edges[at + 1]:
            at += 1
        counts[at] += 1
    return edges, counts


def derived_grid(
    resolved: Resolved, exact: Mapping[str, Number], grid: Grid, made: Derived
) -> list[list[str | Number | None]]:
    """A table's cells put through a formula, in base units."""
    where = f"{resolved.scenario.id}: table {made.title[:40]!r}"
    used = [n for n in names(made.formula) if n != CELL]
    for n in used:
        if n not in exact:
            raise unknown("quantity", n, [*exact, CELL], f"In {where}")
    units = {n: (resolved.units[n].dim, None, n) for n in used} | {CELL: (grid.unit.dim, None, CELL)}
    same_dimension(made.unit, run(made.formula, units, Dimensions())[0], where)
    return [
        [c if c is None or isinstance(c, str) else run(made.formula, {**exact, CELL: c}, Exact()) for c in row]
        for row in grid.rows
    ]
