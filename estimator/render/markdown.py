"""GitHub-flavoured Markdown: headings, tables, and derivations as display mathematics."""

from __future__ import annotations

from typing import Any

from estimator.render.cells import cell_text, exact, facts, shown
from estimator.report import Node, Report, Table, Text


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a Markdown section."""
    by_key = {d.key: d.expression for d in derived[0]} if derived and report.symbolic else {}
    out = [f"## {report.title}", "", *((report.verdict, "") if report.verdict else ())]
    for part in report.body:
        if isinstance(part, Node):
            out += _tree(part, report, by_key)
        elif isinstance(part, Table):
            out += _table(part, report.symbolic)
        elif isinstance(part, Text):
            out += [f"**{part.title}**", ""] if part.title else []
            out += ["```text", part.body.rstrip("\n"), "```", ""]
    found = facts(report)
    out += [f"- {key}: {word}" for key, word in found]
    if found:
        out.append("")
    if derive and derived:
        out += _derivations(*derived[:2])
    if report.assumptions:
        out += ["**Assumptions**", "", *(f"- {a}" for a in report.assumptions), ""]
    if report.sources():
        out += ["**Sources**", "", *(f"- {c}" for c in report.sources()), ""]
    return "\n".join(out)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def _tree(root: Node, report: Report, by_key: dict[str, str]) -> list[str]:
    rows = ["| quantity | value | exact |", "|:--|--:|--:|"]

    def walk(node: Node, depth: int) -> None:
        indent = "&nbsp;&nbsp;" * depth
        value = shown(node, report, by_key)
        note = f" ({node.note})" if node.note else ""
        if report.symbolic and value:
            value = f"`{value}`"
        rows.append(f"| {indent}{_escape(node.label + note)} | {value} | {exact(node, report)} |")
        for child in node.children:
            walk(child, depth + 1)

    for node in (root,) if root.label else root.children:
        walk(node, 0)
    return [*rows, ""]


def _table(table: Table, symbolic: bool) -> list[str]:
    rows = [f"**{table.title}**", ""] if table.title else []
    rows += [
        "| " + " | ".join(_escape(c) for c in table.columns) + " |",
        "|" + "|".join(_align(table, i) for i in range(len(table.columns))) + "|",
    ]
    rows += ["| " + " | ".join(_escape(cell_text(c, symbolic)) for c in row) + " |" for row in table.rows]
    return [*rows, "", *([table.note, ""] if table.note else [])]


def _align(table: Table, column: int) -> str:
    """Words to the left, numbers to the right."""
    return ":--" if column == 0 or all(isinstance(row[column], str) for row in table.rows) else "--:"


def _derivations(found: list[Any], symbols: list[Any]) -> list[str]:
    out = ["### Derivation", "", "| symbol | meaning | value |", "|:--|:--|--:|"]
    out += [
        f"| ${s.latex}$ | {_escape(s.meaning)}{f' (`{s.field}`)' if s.field else ''} "
        f"| {'' if s.value is None else s.value} |"
        for s in symbols
    ]
    out.append("")
    for d in found:
        chain = f"{d.latex} = {d.substituted_latex} = \\text{{{d.shown}}}" if d.substituted_latex else d.latex
        out += [f"{d.label} (`{d.key}`):", "", f"$${chain}$$", ""]
        if d.source:
            out += [f"Source: {d.source}", ""]
    return out
