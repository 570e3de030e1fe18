"""A derivation's working as plain data: what JSON carries."""

from __future__ import annotations

from typing import Any


def steps(d: Any) -> list[dict[str, Any]]:
    """The steps of a derivation: rule, expression and LaTeX, what is counted; then the numbers put in.

    ``equals`` steps equal the quantity and so each other; the others say what a letter used later stands for.
    """
    out = [_step(line) for line in d.lines]
    if d.put is not None:
        put = {"expression": d.substituted, "latex": d.substituted_latex}
        out.append({"rule": "numbers put in", "equals": True, **put})
    return out


def _step(line: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"rule": line.rule, "equals": line.chained and line.written is not None}
    if line.left:
        out["left"] = line.left
    if line.written is not None:
        out |= {"expression": line.written.text, "latex": line.written.latex}
    if line.given:
        out["given"] = {name: value.text for name, value in line.given}
    if line.items:
        out["counted"] = [
            {
                "names": list(item.names),
                "parts": [{"name": name, "shape": [size.text for size in shape]} for name, shape in item.parts],
                "how_many": item.many.text,
                "expression": item.term.text,
            }
            for item in line.items
        ]
    return out
