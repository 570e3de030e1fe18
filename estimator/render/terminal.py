"""The terminal: tables that fit the width, colour only on a terminal, shares as bars."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

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
from estimator.render.sheet import Column, Row, Sheet, Span, sheet_for
from estimator.report import Node, Report, Table, Text
from estimator.trace import value_of

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
    sheet = sheet_for(stream)
    # what is cut from the title of a brief answer is what was typed; its verdict stands in the first three lines
    one_line = short and bool(report.verdict)
    title = textwrap.shorten(report.title, sheet.width, placeholder=" ...") if one_line else report.title
    sheet.print(Span(title, "bold"))
    if report.verdict:
        style = {"yes": "green", "tight": "yellow", "no": "red"}.get(str(report.facts.get("fits")), "")
        sheet.print(Span(prose(report.verdict, sheet.width), style), wrap=False)
    by_key, names = in_letters(report, derived)
    for part in body:
        if isinstance(part, Node):
            _tree(sheet, part, report, by_key, names)
        elif isinstance(part, Table):
            _table(sheet, part, names)
        elif isinstance(part, Text):
            if part.title:
                sheet.print()
                sheet.print(Span(part.title, "bold"))
            sheet.print(Span(prose(part.body.rstrip("\n"), sheet.width)), wrap=False)
            sheet.print()
    for key, word in facts(report):
        sheet.print(Span(f"  {key}: ", "dim"), Span(word, "bold"))
    if derive and derived and derived.found:
        _derivations(sheet, derived)
    for line in report.assumed(short):
        _bullet(sheet, "assumes", line)
    if short:
        rest = len(report.assumptions) - len(report.assumed(short))
        _bullet(sheet, "more", f"every row, {rest} assumptions and the sources: --detail")
    else:
        for cite in report.sources():
            _bullet(sheet, "source", str(cite))
    return sheet.text()


def _bullet(sheet: Sheet, word: str, line: str) -> None:
    sheet.print(Span(_wrap(f"{word}: {line}", "  ", max(20, sheet.width)), "dim"))


def _tree(sheet: Sheet, root: Node, report: Report, by_key: dict[str, str], names: Any) -> None:
    """The tree as rows: label, value, exact count, share of the whole. Labels wrap with a hanging indent."""
    bars = barred(root, report)
    counts = sheet.width >= _NARROW and any(exact(n, report) for n in root.walk())
    rows: list[tuple[Node, int, list[Span]]] = []

    def walk(node: Node, depth: int, whole: Any) -> None:
        cells = [Span(shown(node, report, by_key, names))]
        if counts:
            cells.append(Span(exact(node, report), "dim"))
        if bars:
            share = float(value_of(node.value)) / whole if whole and node.value is not None else None
            cells.append(Span("" if share is None else bar(share), "cyan"))
        rows.append((node, depth, cells))
        for child in node.children:
            walk(child, depth + 1, float(value_of(node.value)) if node.how == "sum" else None)

    for node in (root,) if root.label else root.children:
        walk(node, 1, None)
    if not rows:
        return
    taken = sum(max(len(cells[i].text) for _, _, cells in rows) + 2 for i in range(len(rows[0][2])))
    room = max(_LABEL, sheet.width - taken - 2)
    lines = [(_label(node, depth, room), *([c] for c in cells)) for node, depth, cells in rows]
    value = Column(right=not report.symbolic, wrap=bool(report.symbolic), fold=True)
    beside = [Column(right=True, wrap=False)] * counts + [Column(wrap=False)] * bars
    sheet.grid([Column(fold=True), value, *beside], lines)


def _label(node: Node, depth: int, room: int) -> list[Span]:
    """A row's label with its note beside it where both fit, else below it."""
    indent = "  " * depth
    label = Span(_wrap(node.label, indent, room), "bold" if node.unit is None else "")
    if not node.note:
        return [label]
    if len(indent) + len(node.label) + 2 + len(node.note) <= room:
        return [label, Span(f"  {node.note}", "dim")]
    return [label, Span("\n" + _wrap(node.note, indent + "  ", room), "dim")]


def _wrap(text: str, indent: str, room: int) -> str:
    return textwrap.fill(text, room, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


def _table(sheet: Sheet, table: Table, names: Any) -> None:
    if table.title:
        sheet.print()
        sheet.print(Span(table.title, "bold"))
    cells = [[cell_text(c, names) for c in row] for row in table.rows]
    for i, (columns, widths) in enumerate(blocks(table, cells, sheet.width - _INDENT)):
        if i:
            sheet.print()
        right = [j > 0 and not is_text(table, j) for j in columns]
        head, rows = [table.columns[j] for j in columns], [[row[j] for j in columns] for row in cells]
        sheet.table(head, rows, widths, right, _INDENT)
    if table.note:
        _bullet(sheet, "note", table.note)


def _derivations(sheet: Sheet, derived: Any) -> None:
    sheet.print()
    sheet.print(Span("Derivation", "bold"))
    letters: list[Row] = [
        [[Span("  " + x.name)], [Span(number_of(x))], [Span(x.meaning)], [Span(x.field, "dim")]]
        for x in derived.letters
    ]
    sheet.grid([Column()] * 4, letters)
    brief, worked = False, derived.worked()
    for d in worked:
        one = d.same or (d.put is None and d.bare)
        if not (one and brief):
            sheet.print()
        brief = bool(one)
        if one:
            why = f", the same as: {d.same}" if d.same else _also(d)
            sheet.print(Span(_wrap(f"{d.label}  {d.key}  = {value_line(d)}{why}", "  ", sheet.width)))
            continue
        sheet.print(Span("  " + d.label, "bold"), Span(f"  {d.key}{_also(d)}", "dim"))
        for line in d.brief:
            _step(sheet, line, d.unit if d.put is None and line is d.brief[-1] else "")
        if not d.brief:
            _line(sheet, with_unit(d.expression, d.unit) if d.put is None else d.expression)
        if d.put is not None:
            if len(d.expression) <= LONG and d.puts:
                _line(sheet, d.substituted, "numbers put in" if d.brief else "")
            _line(sheet, value_line(d), style="bold")
        if d.source:
            sheet.print(Span(d.source, "dim"), indent=4)
    if len(worked) > PAGE:
        sheet.print()
        _bullet(sheet, "more", f"one of them alone, a page to hand in: --derive={worked[0].key}")
    sheet.print()


def _also(d: Any) -> str:
    return f", the same: {'; '.join(d.also)}" if d.also else ""


def _step(sheet: Sheet, line: Any, unit: str) -> None:
    if line.items:
        sheet.print(Span(_wrap(line.rule + ":", " " * 4, sheet.width)))
        for item in line.items:
            sheet.print(Span(_wrap(_item(item), " " * 6, sheet.width)))
        if line.written is not None and (len(line.items) > 1 or unit):
            _line(sheet, with_unit(line.written.text, unit))
    elif line.given:
        given = ", ".join(f"{name} = {value.text}" for name, value in line.given)
        sheet.print(Span(_wrap(f"{line.rule} {given}", " " * 4, sheet.width)))
    elif line.written is not None:
        left = f"{line.left} = " if line.left else "= "
        _line(sheet, with_unit(line.written.text, unit), line.rule, left=left)
    else:
        sheet.print(Span(_wrap(line.rule + ":", " " * 4, sheet.width)))


def _item(item: Any) -> str:
    names, parts, each, term = counted_line(item, "text")
    shapes = ", ".join(f"{name} {shape}".strip() for name, shape in parts)
    return f"{names}: {term}" if shapes == term else f"{names}: {shapes}{each} = {term}"


def _line(sheet: Sheet, text: str, why: str = "", left: str = "= ", style: str = "") -> None:
    """``= expression  (why)``; why on a line of its own before where both do not fit."""
    room = sheet.width - 4
    if why and len(left) + len(text) + len(why) + 4 > room:
        sheet.print(Span(_wrap(why + ":", " " * 4, sheet.width)))
        why = ""
    sheet.print(Span(left + text, style), Span(f"  ({why})" if why else "", "dim"), indent=4)
