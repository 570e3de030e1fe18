"""LaTeX: a fragment for ``\\input`` (booktabs, amsmath), ready for a homework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.render.cells import cell_text, exact, facts, shown
from estimator.render.latex_math import broken
from estimator.render.latex_tables import tabular
from estimator.render.layout import is_text, prose
from estimator.report import Node, Report, Table, Text

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "µ": r"$\mu$", "×": r"$\times$", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "·": r"$\cdot$",
}  # fmt: skip
_DRAWN = str.maketrans("─│└├┌┐┘┤┬┴┼·█▉▊▋▌▍▎▏░▒▓━┃", "-|`|,.'|+++.########:o%=|")


def escape(text: str) -> str:
    """Plain text as LaTeX text."""
    return "".join(_SPECIAL.get(c, c) for c in text).replace("--", "-{}-")


LINE = 58  # characters of mathematics that fit a line, about
# characters of a drawing's longest line that fit the text in each size of type
_DRAWING = ((65, ""), (72, "\\small"), (81, "\\footnotesize"), (92, "\\scriptsize"))
_WRAP = 92
MOST = 10**30  # beyond it the digits of a count say nothing


def _heading(title: str) -> list[str]:
    return [f"\\medskip\\noindent\\textbf{{{escape(title)}}}", ""]


def verbatim(text: str) -> list[str]:
    """A drawing as a verbatim block, its box characters as ASCII: the usual LaTeX fonts have none."""
    plain = prose(text.rstrip("\n"), _WRAP).translate(_DRAWN).encode("ascii", "replace").decode()
    widest = max(map(len, plain.split("\n")))
    size = next((name for most, name in _DRAWING if widest <= most), "\\tiny")
    return [f"\\begingroup{size}", "\\begin{verbatim}", plain, "\\end{verbatim}", "\\endgroup", ""]


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a LaTeX fragment; it needs the packages amsmath and booktabs."""
    by_key = {d.key: d.latex for d in derived[0]} if derived and report.symbolic else {}
    out = ["% needs \\usepackage{amsmath,booktabs}", *_heading(report.title)]
    if report.verdict:
        out += [escape(report.verdict), ""]
    for part in report.body:
        if isinstance(part, Node):
            out += _tree(part, report, by_key)
        elif isinstance(part, Table):
            out += _table(part, report.symbolic)
        elif isinstance(part, Text):
            out += _heading(part.title) if part.title else []
            out += [part.latex, ""] if part.latex else verbatim(part.body)
    if derive and derived:
        out += _derivations(*derived[:2])
    out += _list("Results", [f"{key}: {word}" for key, word in facts(report)])
    out += _list("Assumptions", report.assumptions)
    out += _list("Sources", [str(c) for c in report.sources()])
    return "\n".join(out)


def breakable(text: str) -> str:
    """Plain text as LaTeX text whose paths and names may be broken."""
    made = escape(text)
    for mark in ("/", "\\_", "="):
        made = made.replace(mark, mark + "\\allowbreak{}")
    return made


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    items = (f"  \\item {breakable(line)}" for line in lines)
    return [f"\\noindent {title}:", "\\begin{itemize}\\sloppy", *items, "\\end{itemize}", ""]


def _tree(root: Node, report: Report, by_key: dict[str, str]) -> list[str]:
    rows: list[list[str]] = []
    mathematics: set[str] = set()
    counted = any(exact(n, report) for n in root.walk())

    def walk(node: Node, depth: int) -> None:
        value = shown(node, report, by_key)
        if report.symbolic and node.key in by_key:
            mathematics.add(value)
        label = "\t" * depth + node.label + (f" ({node.note})" if node.note else "")
        rows.append([label, value, *([exact(node, report)] if counted else [])])
        for child in node.children:
            walk(child, depth + 1)

    for node in (root,) if root.label else root.children:
        walk(node, 0)

    def cell(text: str, column: int) -> str:
        if column == 1 and text in mathematics:
            return f"${text}$"
        inner = breakable(text.lstrip("\t"))
        depth = len(text) - len(text.lstrip("\t"))
        return (f"\\hspace*{{{depth}em}}" if depth else "") + inner

    columns = ["quantity", "value", *(["exact"] if counted else [])]
    return tabular(columns, rows, [True, False, False][: len(columns)], cell)


def _table(table: Table, symbolic: bool) -> list[str]:
    if table.latex:
        return [table.latex, ""]
    rows = [[cell_text(c, symbolic) for c in row] for row in table.rows]
    words = [i == 0 or is_text(table, i) for i in range(len(table.columns))]
    body = tabular(table.columns, rows, words, lambda text, _: breakable(text))
    note = ["\\noindent " + breakable(table.note), ""] if table.note else []
    return [*(_heading(table.title) if table.title else []), *body, *note]


def _derivations(found: list[Any], symbols: list[Any]) -> list[str]:
    rows = [[s.latex, s.meaning, "" if s.value is None else str(s.value)] for s in symbols]
    out = tabular(
        ["symbol", "meaning", "value"], rows, [False, True, True], lambda t, i: f"${t}$" if i == 0 else breakable(t)
    )
    for d in found:
        out += [f"\\noindent {escape(d.label)}:", "\\begin{align*}"]
        out.append(f"  & {broken(d.latex, LINE)}" + (" \\\\" if d.substituted_latex else ""))
        if d.substituted_latex:
            out += [f"  &= {broken(d.substituted_latex, LINE)} \\\\", f"  &= {_value(d)}"]
        out += ["\\end{align*}", *([f"\\noindent ({breakable(d.source)})", ""] if d.source else [""])]
    return out


def _value(d: Any) -> str:
    """The exact value, and the rounded one where it says more; of a very long number the rounded one alone."""
    if isinstance(d.value, int) and abs(d.value) >= MOST:
        return f"\\text{{{escape(d.shown)}}}"
    exact_value = f"{d.value:,}".replace(",", "{,}") if isinstance(d.value, int) else f"{float(d.value):.10g}"
    same = d.shown.replace(",", "").split(" ")[0] == exact_value.replace("{,}", "")
    return f"\\text{{{escape(d.shown)}}}" if same else f"{exact_value} = \\text{{{escape(d.shown)}}}"
