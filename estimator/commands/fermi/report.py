"""Fermi estimates: a scenario as a chain of steps, with percentiles, a histogram and a sensitivity ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimator.errors import InputError, unknown
from estimator.fermi.chain import Chain, display_unit, in_unit, tex
from estimator.fermi.compare import nearest
from estimator.fermi.engine import (
    FEW,
    Drawn,
    Resolved,
    derived_grid,
    histogram,
    leading_to,
    points,
    resolve,
    samples,
    spread,
    swings,
    uncertain,
)
from estimator.fermi.model import Scenario
from estimator.fermi.numbers import Number
from estimator.fermi.scenario import load, with_settings
from estimator.fermi.units import Measure
from estimator.formula import Citation
from estimator.report import Cell, Node, Report, Table, Text
from estimator.units import Unit, human

DEFAULT_SAMPLES = 10_000
BAR = 40  # cells of the longest histogram bar
MAX_COMPARISONS = 2


def fermi(
    scenario: str | Scenario,
    settings: Mapping[str, str] | None = None,
    count: int = DEFAULT_SAMPLES,
    seed: int = 0,
    target: str | None = None,
    gpu: str | None = None,
    derive: bool = False,
    only: Sequence[str] = (),
) -> Report:
    """A scenario (a name, a TOML file, or one loaded) as a report.

    ``settings`` replaces quantities (``{"price": "between 1 and 4 USD/GPU-hour"}``); ``count`` samples are drawn
    where quantities have ranges (0: none); ``target`` is the quantity of the histogram, the first answer otherwise;
    ``gpu`` replaces the GPU preset that the scenario refers to; ``only`` keeps these quantities and what leads to
    them. Results: every quantity in its own unit, and
    ``.p5 .p50 .p95`` of all that a range reaches. Raises InputError for anything the scenario gets wrong.
    """
    made = load(scenario, gpu) if isinstance(scenario, str) else scenario
    resolved = resolve(with_settings(made, settings or {}))
    if only:
        resolved = resolve(leading_to(resolved, only))
    exact = points(resolved)
    chain = Chain(resolved, exact)
    wide = uncertain(resolved)
    drawn = samples(resolved, count, seed) if count and any(wide.values()) else Drawn({}, {})
    spreads = {n: chain.spread(n, drawn) for n in wide} if count else {}
    goal = _target(resolved, target, drawn)
    body: list[Node | Table | Text] = [*chain.sections(spreads), *_tables(resolved, exact)]
    compared = _comparisons(chain)
    body += [compared] if compared else []
    if goal:
        body += [_sensitivity(chain, goal, drawn), _histogram(chain, goal, drawn[goal])]
    inputs = {"scenario": made.id, "samples": count if drawn else 0, "seed": seed, "gpu": gpu, **(settings or {})}
    return Report(
        "fermi", made.title, inputs, tuple(body), {}, _assumptions(resolved, bool(drawn), count),
        (Citation(made.source),) if made.source else (), hidden=chain.nodes(spreads, derive),
        letters={q.name: q.label or (q.source if q.formula is None else q.text) for q in chain.quantities.values()},
        worked=True,
    )  # fmt: skip


def listing() -> Report:
    """The shipped scenarios: name, what it is about, what it answers."""
    from estimator.presets import ids

    rows = []
    for name in ids("fermi"):
        s = load(name)
        rows.append((name, s.title, ", ".join(s.answers)))
    note = "Run one: llmcalc fermi NAME. Your own: llmcalc fermi new my-estimate.toml"
    return Report("fermi", "Fermi scenarios", {}, (Table("", ("scenario", "what", "answers"), tuple(rows), note),))


def _target(resolved: Resolved, target: str | None, drawn: Mapping[str, Any]) -> str | None:
    if target is not None and target not in resolved.scenario.quantities:
        raise unknown("quantity", target, resolved.scenario.quantities, "In --target")
    if target is not None and drawn and target not in drawn:
        raise InputError(f"--target {target}: no range reaches it; uncertain are: {', '.join(list(drawn)[:12])}")
    choices = [target] if target else [a for a in resolved.scenario.answers if a in drawn]
    return choices[0] if choices and drawn else None


def _tables(resolved: Resolved, exact: Mapping[str, Number]) -> list[Table]:
    """The scenario's tables of figures, and those made of them."""
    out = []
    for grid in resolved.scenario.tables:
        rows = _cells(grid.rows, grid.unit)
        out.append(Table(grid.title, grid.columns, rows, "; ".join(x for x in (grid.source, grid.note) if x)))
        for made in grid.then:
            note = "; ".join(x for x in (f"each cell: {made.text}", made.note) if x)
            rows = _cells(derived_grid(resolved, exact, grid, made), made.unit)
            out.append(Table(made.title, grid.columns, rows, note))
    return out


def _cells(
    rows: Sequence[Sequence[str | Number | None]], measured: Measure
) -> tuple[tuple[str | Cell | None, ...], ...]:
    unit = display_unit(measured)
    return tuple(
        tuple(c if c is None or isinstance(c, str) else Cell(in_unit(c, measured), unit) for c in row) for row in rows
    )


def _histogram(chain: Chain, name: str, values: list[float]) -> Text:
    edges, counts = histogram(values)
    top = max(counts)
    labels = [chain.shown(name, e) for e in edges[:-1]]
    width = max(map(len, labels))
    lines = []
    for label, count in zip(labels, counts, strict=False):
        full, rest = divmod(count * BAR * 8 // top, 8)
        lines.append(f"  {label:>{width}} |{'█' * full}{' ▏▎▍▌▋▊▉'[rest] if rest else ''}")
    p5, p50, p95 = (chain.shown(name, p) for p in spread(values))
    lines.append(f"  5%: {p5}   median: {p50}   95%: {p95}")
    from estimator.render.latex_text import breakable

    latex = f"\\noindent {tex(name)}: 5\\%: {breakable(p5)}, median: {breakable(p50)}, 95\\%: {breakable(p95)}."
    middle = ", the middle 98%" if len(values) >= FEW else ""
    return Text(f"{name}: {len(values):,} samples{middle}", "\n".join(lines), latex)


def _sensitivity(chain: Chain, target: str, drawn: Drawn) -> Table:
    unit = chain.units[target]
    rows: list[tuple[str | Cell | None, ...]] = []
    for s in swings(chain.resolved, drawn, target):
        low, high = (Cell(chain.own(target, v), unit) for v in (s.low, s.high))
        ratio = f"{max(s.low, s.high) / min(s.low, s.high):.3g} times" if s.low > 0 and s.high > 0 else "-"
        rows.append((s.name, low, high, ratio, f"{s.correlation:+.2f}"))
    return Table(
        f"What moves {target} most",
        ("assumption", "at its 5%", "at its 95%", "moves it", "rank corr."),
        tuple(rows),
        f"{target} with one assumption at its 5th and 95th percentile, the others at their points",
    )


def _comparisons(chain: Chain) -> Table | None:
    rows: list[tuple[str | Cell | None, ...]] = []
    for name in chain.resolved.scenario.answers:
        for ratio, thing in nearest(float(chain.exact[name]), chain.resolved.units[name].dim, MAX_COMPARISONS):
            words = f"{_short(ratio)} times {thing.what}" if ratio >= 1 else f"{_short(100 * ratio)}% of {thing.what}"
            rows.append((f"{name}: {chain.shown(name)}", words, thing.source))
    return Table("To compare", ("answer", "that is", "source"), tuple(rows)) if rows else None


def _short(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else human(round(float(f"{ratio:.3g}")), Unit("", "", "words"))


def _assumptions(resolved: Resolved, sampled: bool, count: int) -> tuple[str, ...]:
    out = list(resolved.scenario.notes)
    kinds = sorted({q.range.kind for q in resolved.scenario.quantities.values() if q.range is not None})
    meaning = {
        "lognormal": "log-normal ranges: the two numbers are the 5th and 95th percentile, the point their "
        "geometric mean unless stated",
        "normal": "normal ranges: the two numbers are the 5th and 95th percentile",
        "uniform": "uniform ranges: the two numbers are the ends",
        "triangular": "triangular ranges: the two numbers are the ends, the point is the mode",
    }
    if sampled:
        out += [meaning[k] for k in kinds]
        out.append(f"percentiles from {count:,} samples in which the assumptions are independent of one another")
    changed = [q for q in resolved.scenario.quantities.values() if q.was_set]
    out += [f"{q.name} was set on the command line" for q in changed]
    return tuple(out)
