"""GitHub-flavoured Markdown: headings, tables, and derivations as display mathematics."""

from __future__ import annotations

import re
from typing import Any

from estimator.render.cells import as_math, cell_text, counted_line, exact, facts, in_letters, shown
from estimator.render.latex_working import chain
from estimator.report import Cell, Node, Report, Table, Text


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a Markdown section."""
    by_key, names = in_letters(report, derived)
    out = [f"## {_escape(report.title)}", "", *((_escape(report.verdict), "") if report.verdict else ())]
    for part in report.body:
        if isinstance(part, Node):
            out += _tree(part, report, by_key, names)
        elif isinstance(part, Table):
            out += _table(part, names)
        elif isinstance(part, Text):
            fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(part.body)), default=0))
            out += [f"**{_escape(part.title)}**", ""] if part.title else []
            out += [f"{fence}text", part.body.rstrip("\n"), fence, ""]
    found = facts(report)
    out += [f"- {key}: {_escape(word)}" for key, word in found]
    if found:
        out.append("")
    if derive and derived and derived.found:
        out += _derivations(derived)
    if report.assumptions:
        out += ["**Assumptions**", "", *(f"- {_escape(a)}" for a in report.assumptions), ""]
    if report.sources():
        out += ["**Sources**", "", *(f"- {c}" for c in report.sources()), ""]
    return "\n".join(out)


_TICKS = re.compile("`+")
_SPECIAL = str.maketrans({"|": "\\|", "<": "&lt;", ">": "&gt;", "`": "\\`", "\n": "<br>"})


def _escape(text: str) -> str:
    """A text as one cell or line: no HTML, no code, no column of its own."""
    return text.translate(_SPECIAL)


def _tree(root: Node, report: Report, by_key: dict[str, str], names: Any) -> list[str]:
    rows = ["| quantity | value | exact |", "|:--|--:|--:|"]

    def walk(node: Node, depth: int) -> None:
        indent = "&nbsp;&nbsp;" * depth
        value = as_math(node.value, node.unit, names) or shown(node, report, by_key, names)
        note = f" ({node.note})" if node.note else ""
        rows.append(f"| {indent}{_escape(node.label + note)} | {value} | {exact(node, report)} |")
        for child in node.children:
            walk(child, depth + 1)

    for node in (root,) if root.label else root.children:
        walk(node, 0)
    return [*rows, ""]


def _table(table: Table, names: Any) -> list[str]:
    rows = [f"**{_escape(table.title)}**", ""] if table.title else []
    rows += [
        "| " + " | ".join(_escape(c) for c in table.columns) + " |",
        "|" + "|".join(_align(table, i) for i in range(len(table.columns))) + "|",
    ]
    rows += ["| " + " | ".join(_cell(c, names) for c in row) + " |" for row in table.rows]
    return [*rows, "", *([_escape(table.note), ""] if table.note else [])]


def _cell(cell: str | Cell | None, names: Any) -> str:
    made = as_math(cell.value, cell.unit, names) if isinstance(cell, Cell) else ""
    return made or _escape(cell_text(cell, names))


def _align(table: Table, column: int) -> str:
    """Words to the left, numbers to the right."""
    return ":--" if column == 0 or all(isinstance(row[column], str) for row in table.rows) else "--:"


def _derivations(derived: Any) -> list[str]:
    out = ["### Derivation", "", "| symbol | meaning | value |", "|:--|:--|--:|"]
    out += [
        f"| ${s.latex}$ | {_escape(s.meaning)}{f' (`{s.field}`)' if s.field else ''} "
        f"| {'' if s.value is None else s.value} |"
        for s in derived.letters
    ]
    out.append("")
    for d in derived.worked():
        also = f"; the same: {_escape('; '.join(d.also))}" if d.also else ""
        out += [f"**{_escape(d.label)}** (`{d.key}`){also}:", ""]
        for line in d.brief:
            out += _counted(line)
        out += ["$$\\begin{aligned}", " \\\\\n".join(chain(d)), "\\end{aligned}$$", ""]
        if d.source:
            out += [f"Source: {d.source}", ""]
    return out


def _counted(line: Any) -> list[str]:
    """What a step counts, as a list."""
    rows = []
    for item in line.items:
        names, parts, each, term = counted_line(item, "latex", "${}$")
        shapes = ", ".join(f"{name} {shape}".strip() for name, shape in parts)
        rows.append(f"- {names}: {shapes}{each}: {term}")
    return [f"{line.rule}:", "", *rows, ""] if rows else []
