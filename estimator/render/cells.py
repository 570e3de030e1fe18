"""What every renderer shares: the text of a value, with or without its unit."""

from __future__ import annotations

from typing import Any

from estimator.report import Cell, Node, Report
from estimator.styles import STYLES
from estimator.trace import Traced, value_of
from estimator.units import Unit, human

BAR_WIDTH = 12
NAMED = 6  # things counted alike that are named one by one
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def expression(value: Traced, names: Any) -> str:
    """The expression of a symbolic report's value, its letters spelled as ``names`` says."""
    from estimator.printing import text

    return text(value.expr, names)


def in_letters(report: Report, derived: Any) -> tuple[dict[str, str], Any]:
    """(key -> expression, how letters are spelled) of a symbolic report; ({}, None) of any other."""
    return (derived.by_key("text"), derived.names) if derived and report.symbolic else ({}, None)


def with_unit(text: str, unit: Unit | str) -> str:
    """An expression with the name of its unit."""
    name = unit if isinstance(unit, str) else unit.name
    return f"{text} {name}" if name not in ("count", "ratio", "") else text


def shown(node: Node, report: Report, by_key: dict[str, str], names: Any = None) -> str:
    """A node's value as a person reads it; its expression where the report is symbolic."""
    if node.value is None or node.unit is None:
        return ""
    if report.symbolic and isinstance(node.value, Traced):
        return with_unit(by_key.get(node.key) or expression(node.value, names), node.unit)
    return human(value_of(node.value), node.unit)


def exact(node: Node, report: Report) -> str:
    """The exact count where ``human`` rounds it, else nothing."""
    if node.value is None or node.unit is None or not node.unit.counted:
        return ""
    if report.symbolic and isinstance(node.value, Traced):
        return ""
    value = value_of(node.value)
    return (
        f"{value:,}"
        if isinstance(value, int) and 1000 <= abs(value) < 10**21 and node.unit.style != "plain"
        else ""
    )


def cell_text(cell: str | Cell | None, names: Any = None) -> str:
    """A table cell as text; its expression where the report is symbolic: then ``names`` spells its letters."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell.value, Traced):
        if names is not None:
            return with_unit(expression(cell.value, names), cell.unit)
        return human(cell.value.value, cell.unit)
    return "-" if cell.value is None else human(cell.value, cell.unit)


def as_math(value: Any, unit: Unit | None, names: Any) -> str:
    """A symbolic value as ``$LaTeX$ unit``; "" where it is no expression."""
    if names is None or not isinstance(value, Traced) or unit is None:
        return ""
    from estimator.printing import to_latex

    return with_unit(f"${to_latex(value.expr, names)}$", unit)


def value_line(d: Any) -> str:
    """A derived number with its unit, and as a person reads it where that says more."""
    if d.put is None:
        return with_unit(d.expression, d.unit)
    exact_value = f"{d.value:,}" if isinstance(d.value, int) else str(d.value)
    shown_more = d.shown.replace(",", "").split(" ")[0] != exact_value.replace(",", "")
    return with_unit(exact_value, d.unit) + (f"  ({d.shown})" if shown_more else "")


def counted_line(item: Any, style: str, mark: str = "{}") -> tuple[str, list[tuple[str, str]], str, str]:
    """What is counted alike: (names, parts with their shapes, ", 32 of each" where not one, what they come to).

    mark: how mathematics stands in a line, ``${}$``.
    """
    names = ", ".join(item.names[:NAMED]) + (f" and {len(item.names) - NAMED} more" if len(item.names) > NAMED else "")
    cross = {"text": " x ", "latex": " \\times ", "mathml": "<mo>&#215;</mo>"}[style]
    parts = [(name, mark.format(cross.join(_side(w, style, shape) for w in shape))) for name, shape in item.parts]
    of = "them" if len(parts) == 1 else "each"
    many = "" if item.many.text == "1" else f", {mark.format(item.many.in_style(style))} of {of}"
    return names, parts, many, mark.format(item.term.in_style(style))


def _side(size: Any, style: str, shape: Any) -> str:
    """A size of a shape, in brackets where it is a sum beside others."""
    made = str(size.in_style(style))
    return STYLES[style](False).wrap(made) if len(shape) > 1 and size.is_sum else made


def number_of(letter: Any) -> str:
    """The number that a letter stands for, "" where there is none."""
    return "" if letter.value is None else f"{letter.value:,}" if isinstance(letter.value, int) else str(letter.value)


# facts of a report in words; those that the verdict or a table says already are not said again
_WORDS = {
    "bound": "Bound by", "prefill.bound": "Prefill bound by", "law": "Law", "coefficients": "Coefficients",
    "also_called": "Also called", "as_expected": "Equal to the published counts", "note": "Note",
    "compute_capability": "Compute capability", "flash_attention": "Flash attention",
    "sequences": "Sequences in all",
    "linear.time_big_o": "Linear layer, time", "linear.space_big_o": "Linear layer, space",
    "mha.time_big_o": "Attention, time", "mha.space_big_o": "Attention, space",
    "prefer.memory.mha": "Less memory in attention", "prefer.memory.lffn": "Less memory in linear layers",
    "prefer.time.mha": "Less time in attention", "prefer.time.lffn": "Less time in linear layers",
}  # fmt: skip
_SAID = ("fits", "peak.moment")
TABLED = "complexity."


def facts(report: Report) -> list[tuple[str, str]]:
    """The results that are no quantities, in words: (what, word)."""
    said = {True: "yes", False: "no"}
    return [
        (_WORDS.get(k, k.replace(".", ", ").replace("_", " ").capitalize()), said[v] if isinstance(v, bool) else v)
        for k, v in report.facts.items()
        if isinstance(v, str | bool) and k not in _SAID and k.split(".")[-1] not in _SAID and not k.startswith(TABLED)
    ]


def barred(root: Node, report: Report) -> bool:
    """Whether the rows of a tree show their share of a sum."""
    return not report.symbolic and any(n.how == "sum" and len(n.children) > 1 for n in root.walk())


def bar_share(share: float) -> tuple[float, str]:
    """A share of 1 as (the length of a bar, its percentage)."""
    percent = 100 * share
    return max(0.0, min(1.0, share)), f"{percent:.0f}%" if percent >= 9.5 or share == 0 else f"{percent:.2g}%"


def bar(share: float) -> str:
    """A share of 1 as a bar of ``BAR_WIDTH`` cells and a percentage."""
    length, percent = bar_share(share)
    eighths = round(length * BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    blocks = "█" * full + (_EIGHTHS[rest] if rest else "")
    return f"{blocks:<{BAR_WIDTH}} {percent}"
