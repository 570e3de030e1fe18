"""Derivations as a page to hand in: letters in a line, then each quantity with what is counted, its rule, its steps.

A homework question takes a page: a short working stands in the text, a longer one in aligned rows, each with as many
steps as fit it, and nothing is worked out twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from estimator.render.cells import counted_line, number_of
from estimator.render.latex_math import visible
from estimator.render.latex_text import breakable, with_formulas
from estimator.render.latex_working import GIVEN, PLAIN, PUT, Equation, equation, fits, rows_of
from estimator.styles import latex_digits

WIDE = 96  # characters of an equation and its rule on a page of its own
FEW = 3  # things counted that stand on lines of their own
INLINE = 1.6  # lines of a working that stands in the text
TIGHT = (
    "\\begingroup\\abovedisplayskip=3pt plus 1pt\\abovedisplayshortskip=1pt\\belowdisplayskip=4pt plus 1pt"
    "\\belowdisplayshortskip=4pt\\jot=2pt\\emergencystretch=5em\\raggedright"
)


def derivations(derived: Any, room: int) -> list[str]:
    """The letters, then the quantities. room: characters of a line."""
    out = [TIGHT, *_letters(derived)]
    for d in derived.worked():
        also = f" (the same: {with_formulas('; '.join(d.also))})" if d.also else ""
        words, rows = _parts(d, room)
        head = f"\\smallskip\\noindent\\textbf{{{with_formulas(d.label)}}}{also}{words}"
        out += worked(head, rows, room, ":" if not words else "")
    return [*out, "\\endgroup", ""]


def worked(head: str, rows: list[Equation], room: int, colon: str = ":") -> list[str]:
    """A working after its heading: in the text where it is short, else in aligned rows. colon: then before them."""
    run_in = _merged(rows, int(INLINE * room))
    if len(run_in) == 1 and run_in[0].rule != GIVEN:
        between = "\\par\\noindent\\hspace*{1em}" if "\n" in head else " "
        return [f"{head}{between}{_inline(run_in[0])}.\\par"]
    rows = _merged(rows, room)
    narrow = all(row.rule == GIVEN or visible(row.math) <= room for row in rows)
    if narrow and not all(fits(row, room) for row in rows):
        return [head + colon + "\\par", *(f"\\noindent\\hspace*{{1em}}{_sentence(row)}\\par" for row in rows)]
    return [head + colon, *_aligned([_set(row, room) for row in rows])]


def _sentence(row: Equation) -> str:
    """An equation after the rule that leads to it."""
    if row.rule == GIVEN:
        return f"${row.math}$".replace(",\\ ", "$, $")
    if not row.math:
        return f"{with_formulas(_capital(row.rule))}:"
    return f"{with_formulas(_capital(row.rule))}: {_inline(row._replace(rule=''))}" if row.rule else _inline(row)


def _inline(row: Equation) -> str:
    """An equation in a line of text, which LaTeX breaks at its signs."""
    tall = "\\displaystyle" if "\\frac" in row.math else ""
    return f"${tall}{row.left or '{}'} = {row.math}$" + (f" ({with_formulas(row.rule)})" if row.rule else "")


def _letters(derived: Any) -> list[str]:
    """What the letters stand for, in a line."""
    said = []
    for s in derived.letters:
        number = latex_digits(number_of(s).replace(",", ""))
        said.append(f"${s.latex}{f' = {number}' if number else ''}$ {breakable(s.meaning)}")
    return [f"\\noindent Letters: {'; '.join(said)}.\\par"] if said else []


def _parts(d: Any, room: int) -> tuple[str, list[Equation]]:
    """(what is said before the first equation, the equations)."""
    first, *rest = rows = rows_of(d)
    counted = next((line for line in d.brief if line.items), None)
    if counted is not None:
        return f". {with_formulas(_capital(counted.rule))}:{_counted(counted)}", rows
    if first.rule == GIVEN or not first.rule or (first.math and fits(_merged(rows, room)[0], room)):
        return "", rows
    return f". {with_formulas(_capital(first.rule))}:", [first._replace(rule=""), *rest] if first.math else rest


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text[1:2].islower() or text.startswith("a ") else text


def _merged(rows: list[Equation], room: int) -> list[Equation]:
    """Steps that fit a line together, on one; a rule that goes without saying gives way."""
    out: list[Equation] = []
    for row in rows:
        both = _joined(out[-1], row, room) if out and out[-1].math and row.math and not row.left else None
        if both:
            out[-1] = both
        else:
            out.append(row)
    return out


def _joined(one: Equation, two: Equation, room: int) -> Equation | None:
    """Two steps on a line, None where they do not fit or each has a rule worth a line."""
    said = [r for r in (one.rule, two.rule) if r]
    if GIVEN in said or (len(said) == 2 and two.rule not in PLAIN):
        return None
    tries = [one.rule] if two.rule == PUT else ["; ".join(said), *([one.rule] if two.rule in PLAIN else [])]
    made = (Equation(one.left, f"{one.math} = {two.math}", rule) for rule in tries)
    return next((row for row in made if fits(row, room)), None)


def _set(row: Equation, room: int) -> str:
    if row.rule == GIVEN:
        return f"& {row.math}"
    if not row.rule or (row.math and fits(row, room)):
        return equation(row, room)
    words = f"\\intertext{{{with_formulas(row.rule)}:}}"
    return f"{words}\n{equation(row._replace(rule=''), room)}" if row.math else words


def _aligned(rows: list[str]) -> list[str]:
    """Rows as an ``align*``; no line break stands before an ``\\intertext``."""
    if not rows:
        return []
    out = rows[0]
    for row in rows[1:]:
        out += ("\n" if out.endswith(":}") or row.startswith("\\intertext") else " \\\\\n") + row
    return ["\\begin{align*}", out, "\\end{align*}\\par"]


def _counted(line: Any) -> str:
    """What a step counts: one thing in the line, several as a list."""
    made = []
    for item in line.items:
        names, parts, each, term = counted_line(item, "latex", "${}$")
        shapes = ", ".join(f"{with_formulas(name)} {shape}".strip() for name, shape in parts)
        made.append(f"{with_formulas(names)}: {shapes}{each}" + ("" if shapes == term else f": {term}"))
    if len(made) == 1:
        return f" {made[0]}"
    if len(made) > FEW:  # a line holds two or three of them
        made = ["; \\quad $\\cdot$~".join(made)]
    return "\n".join(["\\par", *listed(made)]).removesuffix("\\par")


def listed(items: Iterable[str]) -> list[str]:
    """A list of few words a line, without the gaps that LaTeX's own has."""
    return [f"\\noindent\\hangindent=2em\\hspace*{{1em}}$\\cdot$ {x}\\par" for x in items]
