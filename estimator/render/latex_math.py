"""Long formulas over several lines, for the rows of an ``align*``."""

from __future__ import annotations

import re

_SPACED = (" + ", " - ")
_AFTER = ("\\cdot ", "\\, ", "\\,", ", ", " / ")
_COMMAND = re.compile(r"\\[A-Za-z]+ ?|[{}^_\\]")
_TALL = re.compile(r"\\(?:left|right)(?=[\[(|)\]]|\\)")


def visible(math: str) -> int:
    """About how many characters wide a formula prints; of a fraction the wider half counts."""
    return len(_COMMAND.sub("", _fractions(math).replace(" \\cdot ", "··")).replace("  ", " "))


def broken(math: str, line: int) -> str:
    """A formula longer than ``line`` characters, continued on further rows.

    It is broken before a plus or minus or after a product's dot, never inside braces. A bracket that opens on one row
    and closes on another cannot grow with its content, so brackets keep their natural size in a formula that breaks.
    """
    if visible(math) <= line:
        return math
    flat = _flat(math)
    while visible(flat) > line and (at := _wide_fraction(flat, line)) >= 0:
        top, end = _braced(flat, at + 5)
        bottom, end = _braced(flat, end)
        flat = f"{flat[:at]}{_bracketed(top)} / {_bracketed(bottom)}{flat[end:]}"
    pieces = _pieces(flat)
    rows, now = [], ""
    for piece in pieces:
        if now and visible(now + piece) > line:
            rows.append(now.rstrip())
            now = piece.lstrip()
        else:
            now += piece
    return " \\\\\n  &\\quad ".join([*rows, now])


def _flat(math: str) -> str:
    """The formula with brackets of their natural size: a row may then end inside them."""
    for name in ("ceil", "floor"):
        opening = f"\\left\\l{name}{{"
        while (at := math.find(opening)) >= 0:
            inner, end = _braced(math, at + len(opening) - 1)
            math = f"{math[:at]}\\l{name} {inner}{math[end:]}"
    return _TALL.sub("", math)


def _wide_fraction(math: str, line: int) -> int:
    """Where a fraction wider than half a line stands outside all braces, or -1."""
    depth = 0
    for i in range(len(math)):
        if depth == 0 and math.startswith("\\frac{", i):
            _, end = _braced(math, _braced(math, i + 5)[1])
            if visible(math[i:end]) > line // 2:
                return i
        depth += (math[i] == "{") - (math[i] == "}")
    return -1


def _bracketed(math: str) -> str:
    """A sum or product in brackets; one number or letter as it is."""
    return math if re.fullmatch(r"[\w.{}\\]+", math) else f"({math})"


def _pieces(math: str) -> list[str]:
    """The formula cut where a row may end."""
    out, now, depth, i = [], "", 0, 0
    while i < len(math):
        if depth == 0 and math.startswith(_SPACED, i):
            out.append(now)
            now, i = math[i : i + 3], i + 3
            continue
        after = next((mark for mark in _AFTER if math.startswith(mark, i)), "") if depth == 0 else ""
        if after:
            out.append(now + after)
            now, i = "", i + len(after)
            continue
        if math.startswith("\\left", i):
            depth += 1
        elif math.startswith("\\right", i) and not math.startswith("\\rightarrow", i):
            depth -= 1
        depth += (math[i] == "{") - (math[i] == "}")
        now, i = now + math[i], i + 1
    return [p for p in [*out, now] if p]


def _fractions(math: str) -> str:
    """Each ``\\frac{a}{b}`` replaced by the longer of a and b."""
    at = math.find("\\frac{")
    if at < 0:
        return math
    top, end = _braced(math, at + 5)
    bottom, end = _braced(math, end) if end < len(math) and math[end] == "{" else ("", end)
    wider = max(_fractions(top), _fractions(bottom), key=lambda t: len(_COMMAND.sub("", t)))
    return math[:at] + wider + _fractions(math[end:])


def _braced(math: str, start: int) -> tuple[str, int]:
    depth = 0
    for i in range(start, len(math)):
        depth += (math[i] == "{") - (math[i] == "}")
        if depth == 0:
            return math[start + 1 : i], i + 1
    return math[start + 1 :], len(math)
