"""CSV: one row a result: key, value, unit, label, and the expression where derived."""

from __future__ import annotations

import csv
import io
from typing import Any

from estimator.report import Report
from estimator.trace import value_of


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The results as CSV with a header row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    expressions = {d.key: d.expression for d in derived[0]} if derived else {}
    writer.writerow(["key", "value", "unit", "label", *(["expression"] if derive else [])])
    nodes = {n.key: n for n in report.nodes() if n.key and n.unit is not None}
    for key, value in report.results().items():
        node = nodes.get(key)
        shown = expressions.get(key, "") if report.symbolic and key in expressions else value_of(value)
        row = [
            key,
            "" if shown is None else shown,
            node.unit.name if node and node.unit else "",
            node.label if node else "",
        ]
        writer.writerow([*row, *([expressions.get(key, "")] if derive else [])])
    return out.getvalue()
