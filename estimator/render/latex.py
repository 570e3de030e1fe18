"""LaTeX: a fragment for ``\\input`` (booktabs, amsmath), ready for a homework."""

from __future__ import annotations

from typing import Any

from estimator.render.cells import cell_text, exact, shown
from estimator.report import Node, Report, Table, Text

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "µ": r"$\mu$", "×": r"$\times$", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "·": r"$\cdot$",
}  # fmt: skip
_DRAWN = str.maketrans("─│└├┌┐┘┤┬┴┼·█▉▊▋▌▍▎▏░▒▓━┃", "-|`|,.'|+++.########:::=|")


def escape(text: str) -> str:
    """Plain text as LaTeX text."""
    return "".join(_SPECIAL.get(c, c) for c in text)


LINE = 90  # characters of mathematics that fit a line, about
_END = ["\\bottomrule", "\\end{tabular}", "\\end{center}", ""]


def _heading(title: str) -> list[str]:
    return [f"\\medskip\\noindent\\textbf{{{escape(title)}}}", ""]


def verbatim(text: str) -> list[str]:
    """A drawing as a verbatim block, its box characters as ASCII: the usual LaTeX fonts have none."""
    plain = text.rstrip("\n").translate(_DRAWN).encode("ascii", "replace").decode()
    return ["\\begin{verbatim}", plain, "\\end{verbatim}", ""]


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a LaTeX fragment; it needs the packages amsmath and booktabs."""
    by_key = {d.key: d.latex for d in derived[0]} if derived and report.symbolic else {}
    out = ["% needs \\usepackage{amsmath,booktabs}", *_heading(report.title)]
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
    rows = ["\\begin{center}", "\\begin{tabular}{lrr}", "\\toprule", "quantity & value & exact \\\\", "\\midrule"]

    def walk(node: Node, depth: int) -> None:
        value = shown(node, report, by_key)
        value = f"${value}$" if report.symbolic and node.key in by_key else escape(value)
        indent = f"\\hspace*{{{depth}em}}" if depth else ""
        rows.append(f"{indent}{escape(node.label)} & {value} & {escape(exact(node, report))} \\\\")
        for child in node.children:
            walk(child, depth + 1)

    for node in (root,) if root.label else root.children:
        walk(node, 0)
    return [*rows, *_END]


def _alignment(table: Table) -> str:
    """Words to the left, numbers to the right."""
    columns = range(1, len(table.columns))
    return "".join("l" if all(isinstance(row[i], str) for row in table.rows) else "r" for i in columns)


def _table(table: Table, symbolic: bool) -> list[str]:
    if table.latex:
        return [table.latex, ""]
    rows = _heading(table.title) if table.title else []
    rows += [
        "\\begin{center}",
        f"\\begin{{tabular}}{{l{_alignment(table)}}}",
        "\\toprule",
        " & ".join(escape(c) for c in table.columns) + " \\\\",
        "\\midrule",
    ]
    rows += [" & ".join(escape(cell_text(c, symbolic)) for c in row) + " \\\\" for row in table.rows]
    return [*rows, *_END, *([escape(table.note), ""] if table.note else [])]


def _derivations(found: list[Any], symbols: list[Any]) -> list[str]:
    out = ["\\begin{center}", "\\begin{tabular}{lll}", "\\toprule", "symbol & meaning & value \\\\", "\\midrule"]
    out += [f"${s.latex}$ & {escape(s.meaning)} & {'' if s.value is None else s.value} \\\\" for s in symbols]
    out += _END
    for d in found:
        out += [f"\\noindent {escape(d.label)}:", "\\begin{align*}"]
        out.append(f"  & {broken(d.latex)}" + (" \\\\" if d.substituted_latex else ""))
        if d.substituted_latex:
            out += [f"  &= {broken(d.substituted_latex)} \\\\", f"  &= {_value(d)}"]
        out += ["\\end{align*}", *([f"({escape(d.source)})", ""] if d.source else [""])]
    return out


def _value(d: Any) -> str:
    """The exact value, and the rounded one where it says more."""
    exact_value = f"{d.value:,}".replace(",", "{,}") if isinstance(d.value, int) else f"{float(d.value):.10g}"
    same = d.shown.replace(",", "").split(" ")[0] == exact_value.replace("{,}", "")
    return f"\\text{{{escape(d.shown)}}}" if same else f"{exact_value} = \\text{{{escape(d.shown)}}}"


def broken(math: str) -> str:
    """A sum longer than a line, continued on the next at a plus or minus outside all brackets."""
    out, depth, line, i = "", 0, 0, 0
    while i < len(math):
        if math.startswith((" + ", " - "), i) and depth == 0 and line > LINE:
            out, line, i = f"{out} \\\\\n  &\\quad {math[i + 1]} ", 0, i + 3
            continue
        depth += (math[i] == "{" or math.startswith("\\left", i)) - (math[i] == "}" or math.startswith("\\right", i))
        out, line, i = out + math[i], line + 1, i + 1
    return out
