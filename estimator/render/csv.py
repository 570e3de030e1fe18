"""CSV: one tidy table with one header row: things of one kind a row each, or a result a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from estimator.errors import unknown
from estimator.render.cells import expression
from estimator.report import Cell, Report, Table
from estimator.trace import Traced, value_of

_RISKY = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that starts so for a formula


def decimal(value: Any) -> Any:
    """A cell: fractions as decimals, None as nothing."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return "" if value is None else value


def plain(text: str) -> str:
    """A text that no spreadsheet runs."""
    return "'" + text if text.startswith(_RISKY) else text


RESULTS = "results"  # --table of the results themselves


def render(report: Report, derived: Any = None, derive: bool = False, table: str = "") -> str:
    """One tidy table: things of one kind a row each, or a result a row.

    table: the title of one of the report's tables, or ``results``; "" for the first of: its rows, its only table where
    each column has one unit, its results.
    """
    names = derived.names if derived and report.symbolic else None
    tables = [p for p in report.body if isinstance(p, Table)]
    if table and table != RESULTS:
        return _table(_named(table, tables), names)
    if not table and report.rows:
        keys = list(dict.fromkeys(k for row in report.rows for k in row))
        return _written(keys, [[row.get(k) for k in keys] for row in report.rows])
    if not table and not derive and _is_table(report):
        return _table(tables[0], names)
    return _results(report, derived, derive)


def left_out(report: Report, table: str) -> list[str]:
    """The titles of tables that this CSV does not hold."""
    tables = [p for p in report.body if isinstance(p, Table)]
    if table or report.rows or _is_table(report):
        return []
    return [t.title for t in tables if t.title]


def _is_table(report: Report) -> bool:
    """Whether a report is one table of numbers, or of words where there are no results."""
    if len(report.body) != 1 or not isinstance(report.body[0], Table) or not _tidy(report.body[0]):
        return False
    return any(isinstance(c, Cell) for row in report.body[0].rows for c in row) or not report.results()


def _named(name: str, tables: list[Table]) -> Table:
    found = [t for t in tables if t.title.lower().startswith(name.lower())]
    if not found:
        raise unknown("--table", name, [RESULTS, *(t.title for t in tables if t.title)])
    return found[0]


def _units(table: Table, column: int) -> set[str]:
    return {c.unit.name for row in table.rows if isinstance(c := row[column], Cell)}


def _tidy(table: Table) -> bool:
    """Whether every column holds one unit, and numbers or words alone."""
    columns = [[row[i] for row in table.rows if row[i] is not None] for i in range(len(table.columns))]
    mixed = any(len({isinstance(c, Cell) for c in column}) > 1 for column in columns)
    return not mixed and all(len(_units(table, i)) <= 1 for i in range(len(columns)))


def _table(table: Table, names: Any) -> str:
    """A table with exact numbers, their units in the header."""
    heads = []
    for i, name in enumerate(table.columns):
        units = _units(table, i)
        unit = next(iter(units)) if len(units) == 1 else ""
        said = unit in ("", "count", "ratio") or unit.lower() in name.lower().split()
        heads.append(name if said else f"{name} ({unit})".strip())

    def value(cell: str | Cell | None) -> Any:
        if not isinstance(cell, Cell):
            return None if cell is None else cell.replace("\n", " ")
        if names is not None and isinstance(cell.value, Traced):
            return expression(cell.value, names)
        return value_of(cell.value)

    return _written(heads, [[value(c) for c in row] for row in table.rows])


def _written(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([plain(v) if isinstance(v, str) else decimal(v) for v in row] for row in rows)
    return out.getvalue()


def _results(report: Report, derived: Any, derive: bool) -> str:
    """A result a row: key, value, unit, label, and the expression where derived."""
    expressions = derived.by_key("text") if derived else {}
    nodes = {n.key: n for n in report.nodes() if n.key and n.unit is not None}
    rows = []
    for key, value in report.results().items():
        node = nodes.get(key)
        shown = expressions.get(key, "") if report.symbolic and key in expressions else value_of(value)
        row = [key, shown, node.unit.name if node and node.unit else "", node.label if node else ""]
        rows.append([*row, *([expressions.get(key, "")] if derive else [])])
    return _written(["key", "value", "unit", "label", *(["expression"] if derive else [])], rows)
