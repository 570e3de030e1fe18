"""A figure in braille: two by four dots a character, ticks and labels around it, letters for the legend."""

from __future__ import annotations

from itertools import cycle, pairwise
from string import ascii_lowercase

from estimator.render.plots import FILLED, Figure, Series, bars, clip, edges

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_DASH = 6  # dots drawn and skipped of a dashed line
_SIGNS = {"dot": "•", "ring": "○"}
_MARK = 4  # dots this wide are marks, drawn as a diamond
_SHADES = "█▓▒░@=+*"  # what bars are filled with; in ASCII too they differ
_LEFT = 10  # columns for the labels of the y axis


def braille(figure: Figure, width: int = 76, height: int = 20) -> str:
    """The figure as text of ``width`` columns and about ``height`` + 5 lines."""
    columns = width - _LEFT - 1
    cells = [[0] * columns for _ in range(height)]
    for series in figure.series:
        for piece in clip(figure, series) if series.kind not in FILLED else ():
            if len(piece) > 1:
                _draw(cells, [(x * (2 * columns - 1), (1 - y) * (4 * height - 1)) for x, y in piece], series.kind)
    text = [[chr(0x2800 + c) if c else " " for c in row] for row in cells]
    shades = dict(zip((s.label for s in figure.legend if s.kind in FILLED), cycle(_SHADES)))
    for series in figure.series:
        if series.kind == "bar":
            for left, right, low, high in bars(figure, series):
                rows = range(round((1 - high) * height), round((1 - low) * height))
                for row in rows:
                    at, end = round(left * (columns - 1)), round(right * (columns - 1))
                    text[row][at:end] = shades.get(series.label, "█") * (end - at)
        if series.kind == "area":
            for column, (low, high) in _heights(figure, series, columns).items():
                for row in range(round((1 - high) * height), round((1 - low) * height)):
                    text[row][column] = shades.get(series.label, "█")
        if series.kind in _SIGNS:
            for ((x, y),) in clip(figure, series):
                row, column = _cell(x, y, columns, height)
                text[row][column] = _SIGNS[series.kind] if series.width < _MARK else "◆"
    letters = dict(zip((s.label for s in figure.legend if s.kind in ("line", "dash")), ascii_lowercase, strict=False))
    for series in sorted(figure.series, key=lambda s: s.colour is not None):  # the emphasised line is labelled first
        tag = letters.get(series.label, "") if len(letters) > 1 else ""
        _label(text, figure, series, tag or series.tag)
    return "\n".join([*_frame(figure, text, columns, height), *_keys(figure, letters, shades)])


def _cell(x: float, y: float, columns: int, rows: int) -> tuple[int, int]:
    """(row, column) of the character that holds a point of the unit square, as lines are drawn."""
    return round((1 - y) * (4 * rows - 1)) // 4, round(x * (2 * columns - 1)) // 2


def _heights(figure: Figure, series: Series, columns: int) -> dict[int, tuple[float, float]]:
    """Column -> (lower, upper edge) of an area there, in the unit square."""
    lower, upper = edges(figure, series)
    out = {}
    for (x0, a0), (x1, a1), (_, b0), (_, b1) in zip(lower, lower[1:], upper, upper[1:], strict=False):
        for column in range(round(x0 * (columns - 1)), round(x1 * (columns - 1)) + 1):
            t = min(1.0, max(0.0, (column / (columns - 1) - x0) / (x1 - x0))) if x1 > x0 else 0.0
            out[column] = (a0 + t * (a1 - a0), b0 + t * (b1 - b0))
    return out


def _draw(cells: list[list[int]], points: list[tuple[float, float]], kind: str) -> None:
    run = 0
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = max(1, round(max(abs(x1 - x0), abs(y1 - y0))))
        for i in range(steps):
            run += 1
            if kind != "dash" or run // _DASH % 2 == 0:
                _dot(cells, round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps))


def _dot(cells: list[list[int]], x: int, y: int) -> None:
    if 0 <= y < 4 * len(cells) and 0 <= x < 2 * len(cells[0]):
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]


def _label(text: list[list[str]], figure: Figure, series: Series, tag: str) -> None:
    pieces = clip(figure, series)
    if not tag or not pieces:
        return
    x, y = pieces[-1][-1]
    rows, columns = len(text), len(text[0])
    row = min(rows - 1, max(0, round((1 - y) * (rows - 1))))
    start = min(columns - len(tag), max(0, round(x * (columns - 1)) - len(tag) // 2))
    if all(not c.isalnum() and c != "." for c in text[row][max(0, start - 1) : start + len(tag) + 1]):
        text[row][start : start + len(tag)] = tag


def _frame(figure: Figure, text: list[list[str]], columns: int, height: int) -> list[str]:
    left = [" " * (_LEFT - 1)] * height
    marks = ["│"] * height
    for value, label in figure.y.ticks(max(3, height // 4)):
        row, _ = _cell(0, figure.y.place(value), 1, height)
        left[row], marks[row] = f"{label:>{_LEFT - 1}}", "┤"
    lines = [f"{figure.y.label}", *(f"{a} {m}{''.join(r).rstrip()}" for a, m, r in zip(left, marks, text, strict=True))]
    axis, below = ["─"] * columns, [" "] * (columns + 8)
    for value, label in figure.x.ticks(max(3, columns // 12)):
        _, column = _cell(figure.x.place(value), 0, columns, 1)
        axis[column] = "┬"
        start = max(0, column - len(label) // 2)
        if all(c == " " for c in below[max(0, start - 1) : start + len(label) + 1]):
            below[start : start + len(label)] = label
    lines += [
        " " * _LEFT + "└" + "".join(axis),
        " " * (_LEFT + 1) + "".join(below).rstrip(),
        f"{figure.x.label:>{columns + _LEFT + 1}}",
    ]
    return lines


def _keys(figure: Figure, letters: dict[str, str], shades: dict[str, str]) -> list[str]:
    signs = {"line": "⣀⣀", "dash": "⠒ ⠒", **_SIGNS}
    keys = []
    for s in figure.legend:
        if s.kind in FILLED:
            keys.append(f"{shades[s.label]} {s.label}")
            continue
        sign = "◆" if s.kind in _SIGNS and s.width >= _MARK else signs[s.kind]
        keys.append(f"{letters[s.label]} {s.label}" if len(letters) > 1 and s.label in letters else f"{sign} {s.label}")
    lines, line = [], ""
    for key in keys:
        if len(line) + len(key) > 74:
            lines.append(line)
            line = ""
        line += ("   " if line else "  ") + key
    return [*lines, *([line] if line else []), *([f"  {figure.note}"] if figure.note else [])]
