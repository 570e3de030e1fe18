"""A resolved scenario as what a report shows: table rows, LaTeX, nodes, and each step's expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimator.fermi.algebra import Latex, Plain, Symbolic, latex_number, run
from estimator.fermi.engine import Resolved, spread
from estimator.fermi.model import Quantity
from estimator.fermi.numbers import Number, plain
from estimator.fermi.parser import names
from estimator.fermi.ranges import HIGH, LOW, MIDDLE
from estimator.fermi.units import Measure
from estimator.report import Cell, Node, Table
from estimator.trace import Traced, trace
from estimator.units import Unit, human
from estimator.working import Step, Working

SHORT = 40  # characters of a source that stands beside its number
PERCENTILES = ("p5", "p50", "p95")


def in_unit(base: Number, unit: Measure) -> int | float:
    """A value in base units, in ``unit``."""
    return plain(base / float(unit.factor) if isinstance(base, float) else base / unit.factor)


def display_unit(unit: Measure) -> Unit:
    """The core's unit for a scenario's: bytes, watts and joules get decimal prefixes, FLOP powers of ten."""
    text = unit.text or "ratio"
    first = text.split("/")[0]
    style = "si" if first in ("B", "W", "J") else "scientific" if first == "FLOP" else "words"
    return Unit(text, unit.text if text != "ratio" else "", style)


class Chain:
    """The steps of a resolved scenario, as table rows, LaTeX and nodes."""

    def __init__(self, resolved: Resolved, exact: Mapping[str, Number]) -> None:
        self.resolved, self.exact = resolved, exact
        self.quantities = resolved.scenario.quantities
        self.units = {n: display_unit(u) for n, u in resolved.units.items()}

    def own(self, name: str, base: Number) -> int | float:
        """A value in base units, in the quantity's own unit."""
        return in_unit(base, self.resolved.units[name])

    def value(self, name: str) -> int | float:
        return self.own(name, self.exact[name])

    def shown(self, name: str, base: Number | None = None) -> str:
        """The value with its unit, as a person reads it."""
        return human(self.value(name) if base is None else self.own(name, base), self.units[name])

    def spread(self, name: str, drawn: Mapping[str, list[float]]) -> tuple[int | float, ...]:
        """Percentiles in the quantity's own unit; the point three times where no width reaches it."""
        if name not in drawn:
            return (self.value(name),) * 3
        given = self.quantities[name].range
        if given is not None:  # known without sampling
            return tuple(self.own(name, given.percentile(p)) for p in (LOW, MIDDLE, HIGH))
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
            steps = self._steps(q, value) if q.name in expressions else None
            out.append(Node(q.name, label, value, unit, note=q.text or q.source, working=steps))
            for key, v in zip(PERCENTILES, spreads.get(q.name, ()), strict=False):
                out.append(Node(f"{q.name}.{key}", f"{label}, {key}", v, unit))
        return tuple(out)

    def _steps(self, q: Quantity, value: Any) -> Working:
        """The formula as the scenario has it, in the quantities' own units."""
        unit = self.units[q.name].name
        return lambda: [Step(f"{q.text}, in {unit}" if unit != "ratio" else q.text, value)]

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
        for q in self.quantities.values():
            found.setdefault(q.section, []).append(q)
        return [self._section(title, rows, spreads) for title, rows in found.items()]

    def _section(self, title: str, quantities: list[Quantity], spreads: Mapping[str, Sequence[int | float]]) -> Table:
        from estimator.render.latex_page import TIGHT

        ranged = any(q.name in spreads for q in quantities)
        rows: list[tuple[str | Cell | None, ...]] = []
        for q in quantities:
            value = self.shown(q.name)
            if q.name in spreads:
                value += f"\n{self._interval(q.name, spreads[q.name])}"
            rows.append((q.name, self._origin(q), value))
        columns = ("quantity", "what, formula, numbers, source", "value, 5% to 95%" if ranged else "value")
        head = f"\\smallskip\\noindent\\textbf{{{tex(title)}}}\\par" if title else ""
        latex = "\n".join([TIGHT, head, *(self._latex(q) for q in quantities), "\\endgroup"])
        return Table(title, columns, tuple(rows), latex=latex)

    def _interval(self, name: str, percentiles: Sequence[int | float]) -> str:
        (low, *word), (high, *other) = (
            human(percentiles[i], self.units[name]).removesuffix(self.units[name].symbol).split() for i in (0, 2)
        )
        # "3 to 5 billion": the scale once where both share it
        return f"{' '.join([low, *(word if word != other else [])])} to {' '.join([high, *other])}"

    def _origin(self, q: Quantity) -> str:
        """Where a number comes from: the formula, the formula with its numbers, the source."""
        where = "; ".join(x for x in (q.source, q.note) if x)
        label = [q.label] if q.label else []
        if q.formula is None:
            return "\n".join([*label, f"[{where or 'assumed'}]"])
        lines = [*label, q.text]
        if names(q.formula):
            values = {n: _bound(self.shown(n)) for n in names(q.formula)}
            lines.append("= " + run(q.formula, values, Plain())[0])
        return "\n".join([*lines, *([f"[{where}]"] if where else [])])

    def _latex(self, q: Quantity) -> str:
        """A step as ``name = formula = numbers = value``, with its source; what is given in a line."""
        from estimator.render.latex_page import worked
        from estimator.render.latex_text import breakable
        from estimator.render.latex_working import BESIDE, Equation

        value = _latex_value(self.shown(q.name))
        where = "; ".join(x for x in (q.source, q.note) if x)
        beside = where if len(where) <= SHORT else ""
        said = " ".join(x for x in (breakable(q.label), f"({breakable(where)})" if where and not beside else "") if x)
        rows = [Equation("", value, beside)]
        if q.formula is not None:
            if names(q.formula):
                values = {n: (_latex_value(self.shown(n)), 2) for n in names(q.formula)}
                rows.insert(0, Equation("", run(q.formula, values, Latex())[0], ""))
            rows.insert(0, Equation("", run(q.formula, {n: (_letter(n), 9) for n in names(q.formula)}, Latex())[0], ""))
        rows[0] = rows[0]._replace(left=_letter(q.name))
        return "\n".join(worked(f"\\noindent {said}{':' if said else ''}", rows, BESIDE, ""))


def _bound(text: str) -> tuple[str, int]:
    """A value with its unit inside a formula: in parentheses where its unit divides or its number is negative."""
    return (f"({text})" if "/" in text or text.startswith("-") else text), 9 if "/" in text or " " not in text else 3


def _letter(name: str) -> str:
    return "\\mathrm{" + name.replace("_", "\\_") + "}"


def tex(text: str) -> str:
    """Plain text as LaTeX text."""
    from estimator.render.latex_text import escape

    return escape(text)


def _latex_value(text: str) -> str:
    """``1.98e15 FLOP/s`` as LaTeX: the number as mathematics, the unit upright."""
    number, _, unit = text.partition(" ")
    made = latex_number(number.replace(",", "")) if "e" in number else number.replace(",", "{,}")
    upright = tex(unit)
    return f"{made}\\ \\text{{{upright}}}" if unit else made
