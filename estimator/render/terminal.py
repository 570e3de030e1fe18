"""The terminal: Rich tables that fit the width, colour only on a terminal, shares as bars."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from estimator.render.cells import (
    bar,
    barred,
    cell_text,
    counted_line,
    exact,
    facts,
    in_letters,
    number_of,
    shown,
    value_line,
    with_unit,
)
from estimator.render.layout import blocks, is_text, prose
from estimator.render.screen import SCREEN, shorter
from estimator.report import Node, Report, Table, Text
from estimator.trace import value_of

FILE_WIDTH = 100
WIDEST = 400  # a wider terminal gains nothing
PAGE = 6  # quantities whose working is longer than a page
_INDENT = 2
LONG = 320  # characters of an expression; in a longer one the numbers put in tell nobody anything
_LABEL = 18  # a label is not squeezed below this
_NARROW = 76  # below this the exact counts are dropped: the rounded value and the bar say more


def render(
    report: Report, derived: Any = None, derive: bool = False, stream: Any = None, detail: bool = True
) -> str:
    """The report as text for ``stream`` (colour where it is a terminal), or plain text 100 columns wide for a file.

    Without ``detail``: its brief, cut to a screen, and of what was assumed only what the user did not give.
    """
    short = bool(report.brief) and not detail and not derive
    body = report.brief if short else report.body
    text = _printed(report, body, derived, derive, stream, short)
    if short and text.count("\n") > SCREEN:
        for less in shorter(body):
            text = _printed(report, less, derived, derive, stream, short)
            if text.count("\n") <= SCREEN:
                break
    return text


def _printed(report: Report, body: Sequence[Any], derived: Any, derive: bool, stream: Any, short: bool) -> str:
    """The report with ``body`` in place of its own."""
    buffer = io.StringIO()
    if stream is not None:
        probe = Console(file=stream)
        console = Console(
            file=buffer,
            width=min(probe.width, WIDEST),
            color_system=None if probe.no_color else probe.color_system,  # type: ignore[arg-type]
            force_terminal=probe.is_terminal,
            no_color=probe.no_color,
            highlight=False,
        )
    else:
        console = Console(file=buffer, width=FILE_WIDTH, color_system=None, highlight=False)
    console.print(RichText(report.title, style="bold"))
    if report.verdict:
        style = {"yes": "green", "tight": "yellow", "no": "red"}.get(str(report.facts.get("fits")), "")
        console.print(RichText(prose(report.verdict, console.width), style=style), soft_wrap=True)
    by_key, names = in_letters(report, derived)
    for part in body:
        if isinstance(part, Node):
            console.print(_tree(part, report, by_key, names, console.width))
        elif isinstance(part, Table):
            _table(console, part, names)
        elif isinstance(part, Text):
            if part.title:
                console.print()
                console.print(RichText(part.title, style="bold"))
            console.print(RichText(prose(part.body.rstrip("\n"), console.width)), soft_wrap=True)
            console.print()
    _facts(console, report)
    if derive and derived and derived.found:
        _derivations(console, derived)
    for line in report.assumed(short):
        _bullet(console, "assumes", line)
    if short:
        rest = sum(not line.startswith("--") for line in report.assumptions)
        _bullet(console, "more", f"every row, {rest} assumptions and the sources: --detail")
    else:
        for cite in report.sources():
            _bullet(console, "source", str(cite))
    # Rich pads rows to the full width; trailing blanks only get in the way of copying
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


def _bullet(console: Console, word: str, line: str) -> None:
    width = max(20, console.width)
    console.print(RichText(_wrap(f"{word}: {line}", "  ", width), style="dim"))


def _facts(console: Console, report: Report) -> None:
    for key, word in facts(report):
        console.print(RichText.assemble((f"  {key}: ", "dim"), (word, "bold")))


def _tree(root: Node, report: Report, by_key: dict[str, str], names: Any, width: int) -> RichTable:
    """The tree as rows: label, value, exact count, share of the whole. Labels wrap with a hanging indent."""
    bars = barred(root, report)
    counts = width >= _NARROW and any(exact(n, report) for n in root.walk())
    rows: list[tuple[Node, int, list[RichText]]] = []

    def walk(node: Node, depth: int, whole: Any) -> None:
        cells = [RichText(shown(node, report, by_key, names))]
        if counts:
            cells.append(RichText(exact(node, report), style="dim"))
        if bars:
            share = float(value_of(node.value)) / whole if whole and node.value is not None else None
            cells.append(RichText(bar(share), style="cyan") if share is not None else RichText())
        rows.append((node, depth, cells))
        for child in node.children:
            walk(child, depth + 1, float(value_of(node.value)) if node.how == "sum" else None)

    for node in (root,) if root.label else root.children:
        walk(node, 1, None)
    table = RichTable(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(justify="left" if report.symbolic else "right", no_wrap=not report.symbolic, overflow="fold")
    if counts:
        table.add_column(justify="right", no_wrap=True)
    if bars:
        table.add_column(no_wrap=True)
    taken = sum(max(len(cells[i]) for _, _, cells in rows) + 2 for i in range(len(rows[0][2]))) if rows else 0
    room = max(_LABEL, width - taken - 2)
    for node, depth, cells in rows:
        table.add_row(_label(node, depth, room), *cells)
    return table


def _label(node: Node, depth: int, room: int) -> RichText:
    """A row's label with its note beside it where both fit, else below it."""
    indent = "  " * depth
    style = "bold" if node.unit is None else ""
    if not node.note or len(indent) + len(node.label) + 2 + len(node.note) <= room:
        label = RichText(_wrap(node.label, indent, room), style=style)
        return label.append(f"  {node.note}", style="dim") if node.note else label
    label = RichText(_wrap(node.label, indent, room), style=style)
    return label.append("\n" + _wrap(node.note, indent + "  ", room), style="dim")


def _wrap(text: str, indent: str, room: int) -> str:
    return textwrap.fill(text, room, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


def _table(console: Console, table: Table, names: Any) -> None:
    if table.title:
        console.print()
        console.print(RichText(table.title, style="bold"))
    cells = [[cell_text(c, names) for c in row] for row in table.rows]
    for i, (columns, widths) in enumerate(blocks(table, cells, console.width - _INDENT)):
        if i:
            console.print()
        lines, room = [table.columns, *cells], list(zip(columns, widths, strict=True))
        if all(cell_len(line[j]) <= width and "\n" not in line[j] for line in lines for j, width in room):
            _plain(console, table, columns, widths, cells)
            continue
        rich = RichTable(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 1))
        for j, width in zip(columns, widths, strict=True):
            justify: Any = "left" if j == 0 or is_text(table, j) else "right"
            rich.add_column(table.columns[j], justify=justify, overflow="fold", width=width)
        for row in cells:
            rich.add_row(*(RichText(row[j]) for j in columns))
        console.print(Padding(rich, (0, 0, 0, _INDENT)))
    if table.note:
        _bullet(console, "note", table.note)


def _plain(console: Console, table: Table, columns: Any, widths: Any, cells: list[list[str]]) -> None:
    """A block whose cells need no wrapping, as Rich would set it; Rich takes 0.5 ms a row to find that out."""
    set_left = [j == 0 or is_text(table, j) for j in columns]

    def line(words: list[str]) -> str:
        blanks = [" " * (w - cell_len(words[j])) for j, w in zip(columns, widths, strict=True)]
        set_ = (words[j] + b if left else b + words[j] for j, b, left in zip(columns, blanks, set_left, strict=True))
        return " " * _INDENT + "   ".join(set_)

    head = RichText(line(list(table.columns)), style="bold")
    rule = " " * _INDENT + "─" * (sum(widths) + 3 * (len(widths) - 1))
    console.print(RichText("\n").join([head, RichText("\n".join([rule, *map(line, cells)]))]), soft_wrap=True)


def _derivations(console: Console, derived: Any) -> None:
    console.print()
    console.print(RichText("Derivation", style="bold"))
    table = RichTable(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for s in derived.letters:
        table.add_row(
            "  " + s.name,
            number_of(s),
            s.meaning,
            RichText(s.field, style="dim"),
        )
    console.print(table)
    brief, worked = False, derived.worked()
    for d in worked:
        one = d.same or (d.put is None and len(d.lines) == 1 and not d.lines[0].rule)
        if not (one and brief):
            console.print()
        brief = bool(one)
        if one:
            why = f", the same as: {d.same}" if d.same else ""
            console.print(RichText(_wrap(f"{d.label}  {d.key}  = {value_line(d)}{why}", "  ", console.width)))
            continue
        console.print(RichText.assemble(("  " + d.label, "bold"), ("  " + d.key, "dim")))
        for line in d.lines:
            _step(console, line, d.unit if d.put is None and line is d.lines[-1] else "")
        if not d.lines:
            _line(console, with_unit(d.expression, d.unit) if d.put is None else d.expression)
        if d.put is not None:
            if len(d.expression) <= LONG and d.substituted not in (d.expression, str(d.value)):
                _line(console, d.substituted, "numbers put in" if d.lines else "")
            _line(console, value_line(d), style="bold")
        if d.source:
            console.print(Padding(RichText(d.source, style="dim"), (0, 0, 0, 4)))
    if len(worked) > PAGE:
        console.print()
        _bullet(console, "more", f"one of them alone, a page to hand in: --derive={worked[0].key}")
    console.print()


def _step(console: Console, line: Any, unit: str) -> None:
    if line.items:
        console.print(RichText(_wrap(line.rule + ":", " " * 4, console.width)))
        for item in line.items:
            console.print(RichText(_wrap(_item(item), " " * 6, console.width)))
        if line.written is not None and (len(line.items) > 1 or unit):
            _line(console, with_unit(line.written.text, unit))
    elif line.given:
        given = ", ".join(f"{name} = {value.text}" for name, value in line.given)
        console.print(RichText(_wrap(f"{line.rule} {given}", " " * 4, console.width)))
    elif line.written is not None:
        left = f"{line.left} = " if line.left else "= "
        _line(console, with_unit(line.written.text, unit), line.rule, left=left)
    else:
        console.print(RichText(_wrap(line.rule + ":", " " * 4, console.width)))


def _item(item: Any) -> str:
    names, parts, each, term = counted_line(item, "text")
    shapes = ", ".join(f"{name} {shape}".strip() for name, shape in parts)
    return f"{names}: {term}" if shapes == term else f"{names}: {shapes}{each} = {term}"


def _line(console: Console, text: str, why: str = "", left: str = "= ", style: str = "") -> None:
    """``= expression  (why)``; why on a line of its own before where both do not fit."""
    room = console.width - 4
    if why and len(left) + len(text) + len(why) + 4 > room:
        console.print(RichText(_wrap(why + ":", " " * 4, console.width)))
        why = ""
    made = RichText.assemble((left + text, style), (f"  ({why})" if why else "", "dim"))
    console.print(Padding(made, (0, 0, 0, 4)))
