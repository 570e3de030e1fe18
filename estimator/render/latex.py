"""LaTeX: a fragment for ``\\input`` (booktabs, amsmath), ready for a homework."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from estimator.render.cells import as_math, cell_text, exact, facts, in_letters, shown
from estimator.render.latex_page import WIDE, derivations, listed
from estimator.render.latex_tables import tabular
from estimator.render.latex_text import escape, with_formulas
from estimator.render.latex_working import BESIDE
from estimator.render.layout import is_text, prose
from estimator.report import Cell, Node, Report, Table, Text
from estimator.styles import latex_digits

_DRAWN = str.maketrans("─│└├┌┐┘┤┬┴┼·█▉▊▋▌▍▎▏░▒▓━┃", "-|`|,.'|+++.########:o%=|")


# characters of a drawing's longest line that fit the text in each size of type
_DRAWING = ((65, ""), (72, "\\small"), (81, "\\footnotesize"), (92, "\\scriptsize"))
_WRAP = 92
_SCIENTIFIC = re.compile(r"\d(?:\.\d+)?e[+-]?\d+")


PACKAGES = "amsmath,booktabs,graphicx"


def document(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a document that compiles as it is: ``--standalone``."""
    head = [
        "\\documentclass{article}", "\\usepackage[T1]{fontenc}",
        "\\usepackage[hmargin=2cm,vmargin=1.25cm,footskip=.65cm]{geometry}", f"\\usepackage{{{PACKAGES}}}",
        "\\begin{document}", *(["\\small"] if derive else []),
    ]  # fmt: skip
    return "\n".join([*head, render(report, derived, derive, WIDE), "\\end{document}", ""])


def _heading(title: str) -> list[str]:
    return [f"\\medskip\\noindent\\textbf{{{with_formulas(title)}}}", ""]


def verbatim(text: str) -> list[str]:
    """A drawing as a verbatim block, its box characters as ASCII: the usual LaTeX fonts have none."""
    plain = prose(text.rstrip("\n"), _WRAP).translate(_DRAWN).encode("ascii", "replace").decode()
    plain = plain.replace("\\end{verbatim", "\\end {verbatim")  # somebody's text does not end the block
    widest = max(map(len, plain.split("\n")))
    size = next((name for most, name in _DRAWING if widest <= most), "\\tiny")
    return [f"\\begingroup{size}", "\\begin{verbatim}", plain, "\\end{verbatim}", "\\endgroup", ""]


def render(report: Report, derived: Any = None, derive: bool = False, room: int = BESIDE) -> str:
    """The report as a LaTeX fragment; it needs the packages amsmath, booktabs and graphicx."""
    by_key, names = in_letters(report, derived)
    out = [f"% needs \\usepackage{{{PACKAGES}}}", *_heading(report.title)]
    if report.verdict:
        out += [f"\\noindent {escape(report.verdict)}", ""]
    works = derive and derived and derived.found and (derived.alone or not report.worked)
    for part in report.body:
        if isinstance(part, Node):
            out += _tree(part, report, by_key, names, room, derived.shown() if works else None)
        elif isinstance(part, Table):
            out += _table(part, names, room, derive)
        elif isinstance(part, Text):
            out += _heading(part.title) if part.title else []
            out += [part.latex, ""] if part.latex else verbatim(part.body)
    if works:
        out += derivations(derived, room)
    notes = _said("Results", [f"{key}: {word}" for key, word in facts(report)])
    notes += (_said if works else _list)("Assumptions", report.assumptions)
    notes += _said("Sources", [str(c) for c in report.sources()])
    out += ["{\\footnotesize", *notes, "}"] if works and notes else notes
    return "\n".join(out)


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    if len(lines) == 1:
        return _said(title, lines)
    return [f"\\smallskip\\noindent {title}:\\par", *listed(map(with_formulas, lines)), ""]


def _said(title: str, words: Sequence[str]) -> list[str]:
    """Few words each, in a line."""
    said = with_formulas("; ".join(words))
    return [f"\\smallskip{{\\raggedright\\noindent {title}: {said}.\\par}}", ""] if words else []


def _tree(root: Node, report: Report, by_key: dict[str, str], names: Any, room: int,
          below: AbstractSet[str] | None) -> list[str]:  # fmt: skip
    """A tree as a table; where numbers are worked out ``below``, an exact count stands beside the others alone."""
    rows: list[list[str]] = []
    mathematics: dict[str, str] = {}  # a value's text -> its LaTeX
    counted = below is None and any(exact(n, report) for n in root.walk())

    def walk(node: Node, depth: int) -> None:
        value = shown(node, report, by_key, names)
        if below is not None and node.key not in below and (count := exact(node, report)):
            value = f"{count} = {value}"
        if made := as_math(node.value, node.unit, names):
            mathematics[value] = made
        label = "\t" * depth + node.label + (f" ({node.note})" if node.note else "")
        rows.append([label, value, *([exact(node, report)] if counted else [])])
        for child in node.children:
            walk(child, depth + 1)

    for node in (root,) if root.label else root.children:
        walk(node, 0)
    if not rows:
        return []

    def cell(text: str, column: int) -> str:
        if column == 1 and text in mathematics:
            return mathematics[text]
        inner = with_formulas(text.lstrip("\t"))
        if column == 1:
            inner = _SCIENTIFIC.sub(lambda m: f"${latex_digits(m.group())}$", inner)
        depth = len(text) - len(text.lstrip("\t"))
        return (f"\\hspace*{{{depth}em}}" if depth else "") + inner

    columns = ["quantity", "value", *(["exact"] if counted else [])]
    return tabular(columns, rows, [True, False, False][: len(columns)], cell, room, below is not None)


def _table(table: Table, names: Any, room: int, dense: bool) -> list[str]:
    if table.latex:
        return [table.latex, ""]
    rows = [[cell_text(c, names) for c in row] for row in table.rows]
    cells = [c for row in table.rows for c in row if isinstance(c, Cell)]
    mathematics = {cell_text(c, names): made for c in cells if (made := as_math(c.value, c.unit, names))}
    kept = [i for i, name in enumerate(table.columns) if name or any(row[i] for row in rows)]
    words = [i == 0 or is_text(table, i) for i in kept]
    body = tabular(
        [table.columns[i] for i in kept], [[row[i] for i in kept] for row in rows], words,
        lambda text, _: mathematics.get(text) or with_formulas(text), room, dense,
    )  # fmt: skip
    note = ["\\noindent " + with_formulas(table.note), ""] if table.note else []
    return [*(_heading(table.title) if table.title else []), *body, *note]
