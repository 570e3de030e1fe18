"""A derivation as the rows of an ``align*`` or ``aligned``: each step an equation, its rule beside or above it."""

from __future__ import annotations

from typing import Any

from estimator.render.latex_math import broken, visible
from estimator.render.latex_text import escape, with_formulas

LINE = 58  # characters of mathematics that fit a line, about
BESIDE = 68  # characters of an equation and its rule that fit one line together
MOST = 10**30  # beyond it the digits of a count say nothing


def chain(d: Any, prose: bool = False) -> list[str]:
    """The rows of a derivation. prose: rules too long to stand beside an equation are ``\\intertext``, which wraps."""
    if d.same:
        return [_row("=", _final(d), f"the same as: {d.same}", prose)]
    rows = []
    unit = "" if d.put is not None else _unit(d.unit)
    for line in d.lines:
        end = unit if line is d.lines[-1] else ""
        if line.given:
            given = ",\\ ".join(f"{_named(name)} = {value.latex}" for name, value in line.given)
            rows.append(f"& \\text{{{_text(line.rule)} }} {given}")
        elif line.items:
            if (len(line.items) > 1 or line is d.lines[-1]) and line.written is not None:
                rows.append(_row("=", line.written.latex + end, "", prose))
        elif line.written is not None:
            left = f"{_named(line.left)} =" if line.left else "="
            rows.append(_row(left, line.written.latex + end, line.rule, prose))
        else:
            rows.append(_words(line.rule, prose))
    if not d.lines:
        rows.append(_row("=", d.latex + unit, "", prose))
    if d.put is not None:
        if d.substituted not in (d.expression, str(d.value)):
            rows.append(_row("=", d.substituted_latex, "numbers put in" if d.lines else "", prose))
        rows.append(_row("=", _final(d), "", prose))
    return rows


def _row(left: str, math: str, rule: str, prose: bool) -> str:
    head, sign = left[:-1].strip(), "="
    equation = f"{head} &{sign} {broken(math, LINE)}"
    if not rule:
        return equation
    if visible(head) + visible(math) + len(rule) <= BESIDE and visible(math) <= LINE:
        return f"{equation} \\qquad \\text{{({_text(rule)})}}"
    end = "" if prose else " \\\\"
    return f"{_words(rule, prose)}{end}\n{equation}"


def _words(rule: str, prose: bool) -> str:
    return f"\\intertext{{{_text(rule)}:}}" if prose else f"& \\text{{{_text(rule)}:}}"


def _text(rule: str) -> str:
    return with_formulas(rule, escape)


def _named(left: str) -> str:
    """What stands left of an equals sign: a letter, or a formula's name."""
    from estimator.styles import latex_name

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
    exact = f"{d.value:,}".replace(",", "{,}") if isinstance(d.value, int) else f"{float(d.value):.10g}"
    same = d.shown.replace(",", "").split(" ")[0] == exact.replace("{,}", "")
    return shown if same else f"{exact}{_unit(d.unit)} = {shown}"
