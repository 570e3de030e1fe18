"""LaTeX: a fragment for ``\\input`` (booktabs, amsmath), ready for a homework."""

from __future__ import annotations

from typing import Any

from estimator.render.cells import cell_text, exact, shown
from estimator.report import Node, Report, Table, Text

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def escape(text: str) -> str:
    """Plain text as LaTeX text."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a LaTeX fragment; it needs the packages amsmath and booktabs."""
    by_key = {d.key: d.latex for d in derived[0]} if derived and report.symbolic else {}
    out = ["% needs \\usepackage{amsmath,booktabs}", f"\\paragraph{{{escape(report.title)}}}", ""]
    for part in report.body:
        if isinstance(part, Node):
            out += _tree(part, report, by_key)
        elif isinstance(part, Table):
            out += _table(part, report.symbolic)
        elif isinstance(part, Text):
            out += (
                [part.latex, ""]
                if part.latex
                else ["\\begin{verbatim}", part.body.rstrip("\n"), "\\end{verbatim}", ""]
            )
    if derive and derived:
        out += _derivations(*derived[:2])
    if report.assumptions:
        out += [
            "\\noindent Assumptions:",
            "\\begin{itemize}",
            *(f"  \\item {escape(a)}" for a in report.assumptions),
            "\\end{itemize}",
            "",
        ]
    if report.sources():
        out += [
            "\\noindent Sources:",
            "\\begin{itemize}",
            *(f"  \\item {escape(str(c))}" for c in report.sources()),
            "\\end{itemize}",
            "",
        ]
    return "\n".join(out)


def _tree(root: Node, report: Report, by_key: dict[str, str]) -> list[str]:
    rows = ["\\begin{tabular}{lrr}", "\\toprule", "quantity & value & exact \\\\", "\\midrule"]

    def walk(node: Node, depth: int) -> None:
        value = shown(node, report, by_key)
        value = f"${value}$" if report.symbolic and node.key in by_key else escape(value)
        rows.append(
            f"\\hspace*{{{depth}em}}{escape(node.label)} & {value} & {escape(exact(node, report))} \\\\"
        )
        for child in node.children:
            walk(child, depth + 1)

    for node in (root,) if root.label else root.children:
        walk(node, 0)
    return [*rows, "\\bottomrule", "\\end{tabular}", ""]


def _table(table: Table, symbolic: bool) -> list[str]:
    if table.latex:
        return [table.latex, ""]
    rows = [f"\\noindent {escape(table.title)}", ""] if table.title else []
    rows += [
        f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        "\\toprule",
        " & ".join(escape(c) for c in table.columns) + " \\\\",
        "\\midrule",
    ]
    rows += [" & ".join(escape(cell_text(c, symbolic)) for c in row) + " \\\\" for row in table.rows]
    return [*rows, "\\bottomrule", "\\end{tabular}", "", *([escape(table.note), ""] if table.note else [])]


def _derivations(found: list[Any], symbols: list[Any]) -> list[str]:
    out = ["\\begin{tabular}{lll}", "\\toprule", "symbol & meaning & value \\\\", "\\midrule"]
    out += [f"${s.latex}$ & {escape(s.meaning)} & {'' if s.value is None else s.value} \\\\" for s in symbols]
    out += ["\\bottomrule", "\\end{tabular}", ""]
    for d in found:
        out += [f"\\noindent {escape(d.label)}:", "\\begin{align*}"]
        out.append(f"  & {d.latex} \\\\" if d.substituted_latex else f"  & {d.latex}")
        if d.substituted_latex:
            out += [f"  &= {d.substituted_latex} \\\\", f"  &= \\text{{{escape(d.shown)}}}"]
        out += ["\\end{align*}", *([f"({escape(d.source)})", ""] if d.source else [""])]
    return out
