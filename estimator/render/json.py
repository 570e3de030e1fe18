"""JSON: one object, the contract of scripts."""

from __future__ import annotations

import json
import math
from typing import Any

from estimator.render.cells import cell_text, in_letters
from estimator.render.working_json import steps
from estimator.report import Cell, Node, Report, Table, Text
from estimator.trace import Traced, value_of


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as one JSON object; bytes, parameters and FLOPs are exact integers, infinities null."""
    by_key, names = in_letters(report, derived)
    results = {k: by_key.get(k, _plain(v)) for k, v in report.results().items()}
    trees = [_tree(p, by_key) for p in (*report.body, *report.hidden) if isinstance(p, Node)]
    out: dict[str, Any] = {
        "schema": report.schema,
        "command": report.command,
        "title": report.title,
        **({"verdict": report.verdict} if report.verdict else {}),
        "inputs": {k: _plain(letter(v, report.symbolic)) for k, v in report.inputs.items()},
        "results": results,
        "tree": trees[0] if len(trees) == 1 else {"key": "", "label": report.title, "children": trees},
        "tables": [_table(p, names) for p in report.body if isinstance(p, Table)],
        "assumptions": list(report.assumptions),
        "citations": [str(c) for c in report.sources()],
        "notes": list(report.notes),
    }
    if worked := [step for p in report.body if isinstance(p, Text) for step in p.steps]:
        out["steps"] = worked
    if report.rows:
        out["rows"] = [dict(row) for row in report.rows]
    if derive and derived:
        out["derivations"] = [
            {
                "key": d.key, "expression": d.expression, "latex": d.latex, "substituted": d.substituted,
                "value": _plain(d.value), "unit": d.unit, "source": d.source,
                **({"steps": steps(d)} if d.lines else {}), **({"same_as": d.same} if d.same else {}),
            }
            for d in derived.found
        ]  # fmt: skip
        out["symbols"] = [
            {
                "name": s.name,
                "latex": s.latex,
                "meaning": s.meaning,
                "field": s.field,
                "value": _plain(s.value),
            }
            for s in derived.letters
        ]
    return json.dumps(out, ensure_ascii=False, indent=1, allow_nan=False)


def letter(value: Any, symbolic: bool) -> Any:
    """A symbolic report's traced input as its letter, every other value as it is."""
    return str(value.expr) if symbolic and isinstance(value, Traced) else value_of(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Traced):
        return _plain(value.value)
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)


def _tree(node: Node, by_key: dict[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {"key": node.key, "label": node.label}
    if node.unit is not None:
        out |= {"value": by_key.get(node.key, _plain(node.value)), "unit": node.unit.name}
    if node.how:
        out["how"] = node.how
    if node.note:
        out["note"] = node.note
    if node.children:
        out["children"] = [_tree(c, by_key) for c in node.children]
    return out


def _table(table: Table, names: Any) -> dict[str, Any]:
    rows = [[_cell(c, names) for c in row] for row in table.rows]
    return {"title": table.title, "columns": list(table.columns), "rows": rows, "note": table.note}


def _cell(cell: str | Cell | None, names: Any) -> Any:
    if not isinstance(cell, Cell):
        return cell
    return cell_text(cell, names) if names is not None and isinstance(cell.value, Traced) else _plain(cell.value)
