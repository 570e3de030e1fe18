"""LaTeX: a fragment for ``\\input`` (booktabs, amsmath), ready for a homework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.render.cells import as_math, cell_text, counted_line, exact, facts, in_letters, shown
from estimator.render.latex_tables import tabular
from estimator.render.latex_text import breakable, escape, with_formulas
from estimator.render.latex_working import chain
from estimator.render.layout import is_text, prose
from estimator.report import Cell, Node, Report, Table, Text

_DRAWN = str.maketrans("─│└├┌┐┘┤┬┴┼·█▉▊▋▌▍▎▏░▒▓━┃", "-|`|,.'|+++.########:o%=|")


# characters of a drawing's longest line that fit the text in each size of type
_DRAWING = ((65, ""), (72, "\\small"), (81, "\\footnotesize"), (92, "\\scriptsize"))
_WRAP = 92


PACKAGES = "amsmath,booktabs,graphicx"


def document(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a document that compiles as it is: ``--standalone``."""
    head = ["\\documentclass{article}", "\\usepackage[T1]{fontenc}", "\\usepackage[margin=2.5cm]{geometry}",
            f"\\usepackage{{{PACKAGES}}}", "\\begin{document}"]  # fmt: skip
    return "\n".join([*head, render(report, derived, derive), "\\end{document}", ""])


def _heading(title: str) -> list[str]:
    return [f"\\medskip\\noindent\\textbf{{{with_formulas(title)}}}", ""]


def verbatim(text: str) -> list[str]:
    """A drawing as a verbatim block, its box characters as ASCII: the usual LaTeX fonts have none."""
    plain = prose(text.rstrip("\n"), _WRAP).translate(_DRAWN).encode("ascii", "replace").decode()
    widest = max(map(len, plain.split("\n")))
    size = next((name for most, name in _DRAWING if widest <= most), "\\tiny")
    return [f"\\begingroup{size}", "\\begin{verbatim}", plain, "\\end{verbatim}", "\\endgroup", ""]


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a LaTeX fragment; it needs the packages amsmath, booktabs and graphicx."""
    by_key, names = in_letters(report, derived)
    out = [f"% needs \\usepackage{{{PACKAGES}}}", *_heading(report.title)]
    if report.verdict:
        out += [escape(report.verdict), ""]
    for part in report.body:
        if isinstance(part, Node):
            out += _tree(part, report, by_key, names)
        elif isinstance(part, Table):
            out += _table(part, names)
        elif isinstance(part, Text):
            out += _heading(part.title) if part.title else []
            out += [part.latex, ""] if part.latex else verbatim(part.body)
    if derive and derived and derived.found:
        out += _derivations(derived)
    out += _list("Results", [f"{key}: {word}" for key, word in facts(report)])
    out += _list("Assumptions", report.assumptions)
    out += _list("Sources", [str(c) for c in report.sources()])
    return "\n".join(out)


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    items = (f"  \\item {with_formulas(line)}" for line in lines)
    return [f"\\noindent {title}:", "\\begin{itemize}\\sloppy", *items, "\\end{itemize}", ""]


def _tree(root: Node, report: Report, by_key: dict[str, str], names: Any) -> list[str]:
    rows: list[list[str]] = []
    mathematics: dict[str, str] = {}  # a value's text -> its LaTeX
    counted = any(exact(n, report) for n in root.walk())

    def walk(node: Node, depth: int) -> None:
        value = shown(node, report, by_key, names)
        if made := as_math(node.value, node.unit, names):
            mathematics[value] = made
        label = "\t" * depth + node.label + (f" ({node.note})" if node.note else "")
        rows.append([label, value, *([exact(node, report)] if counted else [])])
        for child in node.children:
            walk(child, depth + 1)

    for node in (root,) if root.label else root.children:
        walk(node, 0)

    def cell(text: str, column: int) -> str:
        if column == 1 and text in mathematics:
            return mathematics[text]
        inner = with_formulas(text.lstrip("\t"))
        depth = len(text) - len(text.lstrip("\t"))
        return (f"\\hspace*{{{depth}em}}" if depth else "") + inner

    columns = ["quantity", "value", *(["exact"] if counted else [])]
    return tabular(columns, rows, [True, False, False][: len(columns)], cell)


def _table(table: Table, names: Any) -> list[str]:
    if table.latex:
        return [table.latex, ""]
    rows = [[cell_text(c, names) for c in row] for row in table.rows]
    cells = [c for row in table.rows for c in row if isinstance(c, Cell)]
    mathematics = {cell_text(c, names): made for c in cells if (made := as_math(c.value, c.unit, names))}
    kept = [i for i, name in enumerate(table.columns) if name or any(row[i] for row in rows)]
    words = [i == 0 or is_text(table, i) for i in kept]
    body = tabular(
        [table.columns[i] for i in kept], [[row[i] for i in kept] for row in rows], words,
        lambda text, _: mathematics.get(text) or with_formulas(text),
    )  # fmt: skip
    note = ["\\noindent " + with_formulas(table.note), ""] if table.note else []
    return [*(_heading(table.title) if table.title else []), *body, *note]


def _derivations(derived: Any) -> list[str]:
    rows = [[s.latex, s.meaning, "" if s.value is None else str(s.value)] for s in derived.letters]
    columns = ["symbol", "meaning", *(["value"] if any(r[2] for r in rows) else [])]
    out = tabular(
        columns, [r[: len(columns)] for r in rows], [False, True, True][: len(columns)],
        lambda t, i: f"${t}$" if i == 0 else breakable(t),
    )  # fmt: skip
    for d in derived.worked():
        out.append(f"\\medskip\\noindent\\textbf{{{with_formulas(d.label)}}}:")
        for line in d.lines:
            out += _counted(line)
        out += ["\\begin{align*}", _joined(chain(d, prose=True)), "\\end{align*}"]
        out += [f"\\noindent ({breakable(d.source)})", ""] if d.source else [""]
    return out


def _joined(rows: list[str]) -> str:
    """Rows of an ``align*``; no line break stands before an ``\\intertext``."""
    out = ""
    for i, row in enumerate(rows):
        if i:
            out += "\n" if rows[i - 1].endswith(":}") or row.startswith("\\intertext") else " \\\\\n"
        out += row
    return out


def _counted(line: Any) -> list[str]:
    """What a step counts, as a list."""
    rows = []
    for item in line.items:
        names, parts, each, term = counted_line(item, "latex", "${}$")
        shapes = ", ".join(f"{breakable(name)} {shape}".strip() for name, shape in parts)
        rows.append(f"  \\item {with_formulas(names)}: {shapes}{each}: {term}")
    if not rows:
        return []
    return [f"{with_formulas(line.rule)}:", "\\begin{itemize}\\sloppy", *rows, "\\end{itemize}"]
