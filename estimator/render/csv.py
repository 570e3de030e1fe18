"""CSV: one row a result: key, value, unit, label, and the expression where derived."""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from typing import Any

from estimator.report import Report
from estimator.trace import value_of

_RISKY = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that starts so for a formula


def decimal(value: Any) -> Any:
    """A cell: fractions as decimals, None as nothing."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return "" if value is None else value


def plain(text: str) -> str:
    """A text that no spreadsheet runs."""
    return "'" + text if text.startswith(_RISKY) else text


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The results as CSV with a header row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if report.rows:
        writer.writerow(report.rows[0])
        writer.writerows([plain(v) if isinstance(v, str) else decimal(v) for v in row.values()] for row in report.rows)
        return out.getvalue()
    expressions = derived.by_key("text") if derived else {}
    writer.writerow(["key", "value", "unit", "label", *(["expression"] if derive else [])])
    nodes = {n.key: n for n in report.nodes() if n.key and n.unit is not None}
    for key, value in report.results().items():
        node = nodes.get(key)
        shown = expressions.get(key, "") if report.symbolic and key in expressions else value_of(value)
        row = [
            key,
            decimal(shown),
            node.unit.name if node and node.unit else "",
            plain(node.label) if node else "",
        ]
        writer.writerow([*row, *([expressions.get(key, "")] if derive else [])])
    return out.getvalue()
