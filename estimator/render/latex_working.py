"""A derivation as the rows of an ``align*`` or ``aligned``: each step an equation, its rule beside or above it."""

from __future__ import annotations

from typing import Any

from estimator.records import NamedTuple
from estimator.render.latex_math import broken, visible
from estimator.render.latex_text import escape, with_formulas
from estimator.styles import latex_digits, latex_name

LINE = 58  # characters of mathematics that fit a line, about
BESIDE = 72  # characters of an equation and its rule that fit one line together
GAP = 4  # characters between an equation and its rule
MOST = 10**30  # beyond it the digits of a count say nothing


class Equation(NamedTuple):
    """An equation of a derivation: what stands left of its sign, what right, the rule; words alone have no ``math``."""

    left: str
    math: str
    rule: str


def rows_of(d: Any) -> list[Equation]:
    """The rows of a derivation."""
    if d.same:
        return [Equation("", _final(d), f"the same as: {d.same}")]
    rows = []
    unit = "" if d.put is not None else _unit(d.unit)
    for line in d.brief:
        end = unit if line is d.brief[-1] else ""
        if line.given:
            given = ",\\ ".join(f"{_named(name)} = {value.latex}" for name, value in line.given)
            rows.append(Equation("", f"\\text{{{_text(line.rule)} }} {given}", GIVEN))
        elif line.items:
            if (len(line.items) > 1 or line is d.brief[-1]) and line.written is not None:
                rows.append(Equation("", line.written.latex + end, ""))
        elif line.written is not None:
            rows.append(Equation(_named(line.left) if line.left else "", line.written.latex + end, line.rule))
        else:
            rows.append(Equation("", "", line.rule))
    if not d.brief:
        rows.append(Equation("", d.latex + unit, ""))
    if d.put is not None:
        if d.puts:
            rows.append(Equation("", d.substituted_latex, PUT if d.brief else ""))
        rows.append(Equation("", _final(d), ""))
    return rows


GIVEN, PUT = "given", "numbers put in"
PLAIN = (PUT, "multiplied out", "added up", "simplified", "the common factor taken out")  # rules that need no line


def chain(d: Any) -> list[str]:
    """The rows of a derivation for an ``aligned``, each step on its own."""
    out = []
    for row in rows_of(d):
        if row.rule == GIVEN:
            out.append(f"& {row.math}")
        elif not row.math:
            out.append(f"& \\text{{{_text(row.rule)}:}}")
        elif fits(row):
            out.append(equation(row))
        else:
            out += [f"& \\text{{{_text(row.rule)}:}}", equation(row._replace(rule=""))]
    return out


def fits(row: Equation, room: int = BESIDE) -> bool:
    """Whether a row's rule stands beside its equation."""
    wide = visible(row.left) + visible(row.math)
    return wide + len(row.rule) + GAP <= room if row.rule else wide <= room


def equation(row: Equation, room: int = LINE) -> str:
    """A row of an ``align*``."""
    beside = f" \\qquad \\text{{({_text(row.rule)})}}" if row.rule else ""
    return f"{row.left} &= {broken(row.math, room)}{beside}"


def _text(rule: str) -> str:
    return with_formulas(rule, escape)


def _named(left: str) -> str:
    """What stands left of an equals sign: a letter, or a formula's name."""
    if max(map(len, left.split("_"))) > 5 or left.count("_") > 1:
        return f"\\text{{{_text(left)}}}"
    return latex_name(left)


def _unit(name: str) -> str:
    return "" if name in ("count", "ratio", "") else f"\\ \\text{{{_text(name)}}}"


def _final(d: Any) -> str:
    """The exact value with its unit, and the rounded one where it says more; of a very long number the rounded one."""
    if d.put is None:
        return str(d.latex) + _unit(d.unit)
    shown = f"\\text{{{_text(d.shown)}}}"
    if isinstance(d.value, int) and abs(d.value) >= MOST:
        return shown
    exact = latex_digits(str(d.value) if isinstance(d.value, int) else f"{float(d.value):.10g}")
    same = d.shown.replace(",", "").split(" ")[0] == exact.replace("{,}", "")
    return shown if same else f"{exact}{_unit(d.unit)} = {shown}"
