"""Fermi estimates: a scenario as a chain of steps, with percentiles, a histogram and a sensitivity ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimator.errors import InputError, unknown
from estimator.fermi.algebra import Latex, Plain, Symbolic, latex_number, run
from estimator.fermi.compare import nearest
from estimator.fermi.engine import (
    Resolved,
    derived_grid,
    histogram,
    points,
    resolve,
    samples,
    spread,
    swings,
    uncertain,
)
from estimator.fermi.numbers import Number, plain
from estimator.fermi.parser import names
from estimator.fermi.scenario import Quantity, Scenario, load, with_settings
from estimator.fermi.units import Measure
from estimator.formula import Citation
from estimator.report import Cell, Node, Report, Table, Text
from estimator.trace import Traced, trace
from estimator.units import Unit, human

DEFAULT_SAMPLES = 10_000
BAR = 40  # cells of the longest histogram bar
MAX_COMPARISONS = 2
_PERCENTILES = ("p5", "p50", "p95")
_LATEX_UNIT = {"%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_"}


def fermi(
    scenario: str | Scenario,
    settings: Mapping[str, str] | None = None,
    count: int = DEFAULT_SAMPLES,
    seed: int = 0,
    target: str | None = None,
    gpu: str | None = None,
    derive: bool = False,
) -> Report:
    """A scenario (a name, a TOML file, or one loaded) as a report.

    ``settings`` replaces quantities (``{"price": "between 1 and 4 USD/GPU-hour"}``); ``count`` samples are drawn
    where quantities have ranges (0: none); ``target`` is the quantity of the histogram, the first answer otherwise;
    ``gpu`` replaces the GPU preset that the scenario refers to. Results: every quantity in its own unit, and
    ``.p5 .p50 .p95`` of all that a range reaches. Raises InputError for anything the scenario gets wrong.
    """
    made = load(scenario, gpu) if isinstance(scenario, str) else scenario
    resolved = resolve(with_settings(made, settings or {}))
    exact = points(resolved)
    chain = _Chain(resolved, exact)
    wide = uncertain(resolved)
    drawn = samples(resolved, count, seed) if count and any(wide.values()) else {}
    spreads = {n: chain.spread(n, drawn) for n in wide} if count else {}
    goal = _target(resolved, target, drawn)
    body: list[Node | Table | Text] = [*chain.sections(spreads), *_tables(resolved, exact)]
    if goal:
        body += [_histogram(chain, goal, drawn[goal]), _sensitivity(chain, goal, drawn)]
    compared = _comparisons(chain)
    body += [compared] if compared else []
    inputs = {"scenario": made.id, "samples": count if drawn else 0, "seed": seed, "gpu": gpu, **(settings or {})}
    return Report(
        "fermi", made.title, inputs, tuple(body), {}, _assumptions(resolved, bool(drawn), count),
        (Citation(made.source),) if made.source else (), hidden=chain.nodes(spreads, derive),
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


def display_unit(unit: Measure) -> Unit:
    """The core's unit for a scenario's: bytes, watts and joules get decimal prefixes, FLOP powers of ten."""
    text = unit.text or "ratio"
    first = text.split("/")[0]
    style = "decimal" if first in ("B", "W", "J") else "scientific" if first == "FLOP" else "words"
    return Unit(text, unit.text if text != "ratio" else "", style)


class _Chain:
    """The steps of a resolved scenario, as table rows, LaTeX and nodes."""

    def __init__(self, resolved: Resolved, exact: Mapping[str, Number]) -> None:
        self.resolved, self.exact = resolved, exact
        self.quantities = resolved.scenario.quantities
        self.units = {n: display_unit(u) for n, u in resolved.units.items()}

    def own(self, name: str, base: Number) -> int | float:
        """A value in base units, in the quantity's own unit."""
        factor = self.resolved.units[name].factor
        return plain(base / float(factor) if isinstance(base, float) else base / factor)

    def value(self, name: str) -> int | float:
        return self.own(name, self.exact[name])

    def shown(self, name: str, base: Number | None = None) -> str:
        """The value with its unit, as a person reads it."""
        return human(self.value(name) if base is None else self.own(name, base), self.units[name])

    def spread(self, name: str, drawn: Mapping[str, list[float]]) -> tuple[int | float, ...]:
        """Percentiles in the quantity's own unit; the point three times where no width reaches it."""
        if name not in drawn:
            return (self.value(name),) * 3
        return tuple(self.own(name, v) for v in spread(drawn[name]))

    def nodes(self, spreads: Mapping[str, Sequence[int | float]], derive: bool) -> tuple[Node, ...]:
        """One node for each quantity and percentile: what JSON, CSV and derivations show."""
        expressions = self._expressions() if derive else {}
        out = []
        for q in self.quantities.values():
            value: Any = self.value(q.name)
            if q.name in expressions:
                value = Traced(value, expressions[q.name])
            unit, label = self.units[q.name], q.label or q.name
            out.append(Node(q.name, label, value, unit, note=q.text or q.source))
            for key, v in zip(_PERCENTILES, spreads.get(q.name, ()), strict=False):
                out.append(Node(f"{q.name}.{key}", f"{label}, {key}", v, unit))
        return tuple(out)

    def _expressions(self) -> dict[str, Any]:
        """Each step in the letters of what it is made of, each letter in its own unit, conversions spelled out."""
        import sympy

        letters: dict[str, Any] = {}
        for n, unit in self.resolved.units.items():
            bound = trace(n, self.value(n), n)
            letter = sympy.Symbol(bound.expr.name, real=True)
            letters[n] = letter * sympy.Rational(unit.factor.numerator, unit.factor.denominator)
        out = {}
        algebra = Symbolic()
        for q in self.quantities.values():
            if q.formula is not None:
                factor = self.resolved.units[q.name].factor
                made = run(q.formula, letters, algebra)
                out[q.name] = made * sympy.Rational(factor.denominator, factor.numerator)
        return out

    def sections(self, spreads: Mapping[str, Sequence[int | float]]) -> list[Table]:
        """A table for each section of the chain, in the order of the file."""
        found: dict[str, list[Quantity]] = {}
        current = ""
        for q in self.quantities.values():
            current = q.section or current
            found.setdefault(current, []).append(q)
        return [self._section(title, rows, spreads) for title, rows in found.items()]

    def _section(self, title: str, quantities: list[Quantity], spreads: Mapping[str, Sequence[int | float]]) -> Table:
        ranged = any(q.name in spreads for q in quantities)
        rows: list[tuple[str | Cell | None, ...]] = []
        for q in quantities:
            name = q.name if not q.label else f"{q.name}\n{q.label}"
            row: list[str | Cell | None] = [name, self._origin(q), Cell(self.value(q.name), self.units[q.name])]
            if ranged:
                row.append(self._interval(q.name, spreads[q.name]) if q.name in spreads else "")
            rows.append(tuple(row))
        columns = ("quantity", "formula, numbers, source", "value", *(("5% to 95%",) if ranged else ()))
        latex = "\n".join([f"\\paragraph{{{_tex(title)}}}" if title else "", *(self._latex(q) for q in quantities)])
        return Table(title, columns, tuple(rows), latex=latex)

    def _interval(self, name: str, percentiles: Sequence[int | float]) -> str:
        low, high = (human(percentiles[i], self.units[name]) for i in (0, 2))
        tail = self.units[name].symbol
        # "3 billion to 5 billion USD": the unit once where both carry the same
        if tail and low.endswith(f" {tail}") and high.endswith(f" {tail}"):
            low = low.removesuffix(f" {tail}")
            high = high.removesuffix(f" {tail}")
        return f"{low} to {high}"

    def _origin(self, q: Quantity) -> str:
        """Where a number comes from: the formula, the formula with its numbers, the source."""
        where = "; ".join(x for x in (q.source, q.note) if x)
        if q.formula is None:
            return where or "assumed"
        lines = [q.text]
        if names(q.formula):
            values = {n: _bound(self.shown(n)) for n in names(q.formula)}
            lines.append("= " + run(q.formula, values, Plain())[0])
        return "\n".join([*lines, *([where] if where else [])])

    def _latex(self, q: Quantity) -> str:
        """A step as ``name = formula = numbers = value``, each on its line, with its source."""
        value = _latex_value(self.shown(q.name))
        where = "; ".join(x for x in (q.source, q.note) if x)
        label = f"\\noindent {_tex(q.label or q.name)}{f' ({_tex(where)})' if where else ''}:"
        letter = _letter(q.name)
        if q.formula is None:
            return f"{label}\n\\[ {letter} = {value} \\]"
        lines = [f"{letter} &= {run(q.formula, {n: (_letter(n), 9) for n in names(q.formula)}, Latex())[0]}"]
        if names(q.formula):
            values = {n: (_latex_value(self.shown(n)), 2) for n in names(q.formula)}
            lines.append(f"  &= {run(q.formula, values, Latex())[0]}")
        return "\n".join([label, "\\begin{align*}", " \\\\\n".join([*lines, f"  &= {value}"]), "\\end{align*}"])


def _bound(text: str) -> tuple[str, int]:
    """A value with its unit inside a formula: in parentheses where its unit divides or its number is negative."""
    return (f"({text})" if "/" in text or text.startswith("-") else text), 9 if "/" in text or " " not in text else 3


def _letter(name: str) -> str:
    return "\\mathrm{" + name.replace("_", "\\_") + "}"


def _tex(text: str) -> str:
    from estimator.render.latex import escape

    return escape(text)


def _latex_value(text: str) -> str:
    """``1.98e15 FLOP/s`` as LaTeX: the number as mathematics, the unit upright."""
    number, _, unit = text.partition(" ")
    made = latex_number(number.replace(",", "")) if "e" in number else number.replace(",", "{,}")
    upright = "".join(_LATEX_UNIT.get(c, c) for c in unit)
    return f"{made}\\ \\text{{{upright}}}" if unit else made


def _tables(resolved: Resolved, exact: Mapping[str, Number]) -> list[Table]:
    out = []
    for grid in resolved.scenario.tables:
        unit = display_unit(grid.unit)
        rows = tuple((str(r[0]), *(None if c is None else Cell(_in(c, grid.unit), unit) for c in r[1:])) for r in grid.rows)  # type: ignore[arg-type]
        out.append(Table(grid.title, grid.columns, rows, "; ".join(x for x in (grid.source, grid.note) if x)))
        for made in grid.then:
            cells = derived_grid(resolved, exact, grid, made)
            unit = display_unit(made.unit)
            rows = tuple((str(r[0]), *(None if c is None else Cell(_in(c, made.unit), unit) for c in r[1:])) for r in cells)  # type: ignore[arg-type]
            out.append(Table(made.title, grid.columns, rows, "; ".join(x for x in (f"each cell: {made.text}", made.note) if x)))
    return out


def _in(base: Number, unit: Measure) -> int | float:
    return plain(base / float(unit.factor) if isinstance(base, float) else base / unit.factor)


def _histogram(chain: _Chain, name: str, values: list[float]) -> Text:
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
    return Text(f"\n{name}: {len(values):,} samples, the middle 98%", "\n".join(lines))


def _sensitivity(chain: _Chain, target: str, drawn: Mapping[str, list[float]]) -> Table:
    unit = chain.units[target]
    rows: list[tuple[str | Cell | None, ...]] = []
    for s in swings(chain.resolved, drawn, target):
        low, high = (Cell(chain.own(target, v), unit) for v in (s.low, s.high))
        ratio = f"{max(s.low, s.high) / min(s.low, s.high):.3g} times" if s.low > 0 and s.high > 0 else "-"
        rows.append((s.name, low, high, ratio, f"{s.correlation:+.2f}"))
    return Table(
        f"What moves {target} most",
        ("assumption", "at its 5%", "at its 95%", "moves it", "rank correlation"),
        tuple(rows),
        f"{target} with one assumption at its 5th and 95th percentile, the others at their points",
    )


def _comparisons(chain: _Chain) -> Table | None:
    rows: list[tuple[str | Cell | None, ...]] = []
    for name in chain.resolved.scenario.answers:
        for ratio, thing in nearest(float(chain.exact[name]), chain.resolved.units[name].dim, MAX_COMPARISONS):
            words = f"{_short(ratio)} times {thing.what}" if ratio >= 1 else f"{_short(100 * ratio)}% of {thing.what}"
            rows.append((name, words, thing.source))
    return Table("To compare", ("answer", "that is", "source"), tuple(rows)) if rows else None


def _short(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 100 else human(float(f"{ratio:.3g}"), Unit("", "", "words"))


def _assumptions(resolved: Resolved, sampled: bool, count: int) -> tuple[str, ...]:
    out = list(resolved.scenario.notes)
    kinds = sorted({q.range.kind for q in resolved.scenario.quantities.values() if q.range is not None})
    meaning = {
        "lognormal": "log-normal ranges: the two numbers are the 5th and 95th percentile, the point their geometric mean unless stated",
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
