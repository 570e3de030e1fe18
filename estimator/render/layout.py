"""Tables that fit a width: which columns stand side by side, and how wide each is.

A number is never broken, a word only where it alone is wider than the page: a table whose columns do not fit is
continued below, its first column repeated.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from estimator.report import Cell, Table

GAP = 3  # blanks between two columns
_SHORT = 28  # a column up to this width is not wrapped while a longer one can be
_DRAWN = range(0x2500, 0x2900)  # box drawing, blocks, braille


def is_text(table: Table, column: int) -> bool:
    """Whether a column after the first holds words only."""
    return column > 0 and all(isinstance(row[column], str) for row in table.rows)


def blocks(table: Table, cells: Sequence[Sequence[str]], room: int) -> list[tuple[list[int], list[int]]]:
    """The table's columns as blocks that each fit ``room`` characters: (columns, their widths)."""
    count = len(table.columns)
    least, natural = [], []
    for i in range(count):
        words = any(not isinstance(row[i], Cell) for row in table.rows) and (i == 0 or is_text(table, i))
        texts = [row[i] for row in cells]
        whole = max((len(line) for text in texts for line in text.split("\n")), default=0)
        word = max((len(w) for text in texts for w in text.split()), default=0)
        header = max((len(w) for w in table.columns[i].split()), default=0)
        least.append(max(header, word if words else whole, 1))
        natural.append(max(len(table.columns[i]), whole, 1))
    out: list[tuple[list[int], list[int]]] = []
    first, rest = 0, list(range(1, count))
    while rest or not out:
        taken, used = [first], min(least[first], room)
        while rest and (len(taken) == 1 or used + GAP + least[rest[0]] <= room):
            used += GAP + least[rest[0]]
            taken.append(rest.pop(0))
        out.append((taken, _widths([least[i] for i in taken], [natural[i] for i in taken], room)))
    return out


def _widths(least: list[int], natural: list[int], room: int) -> list[int]:
    """Natural widths, the widest ones narrowed until all fit; below ``least`` only where nothing else helps."""
    widths = list(natural)
    over = sum(widths) + GAP * (len(widths) - 1) - room
    for floor in ([max(m, min(n, _SHORT)) for m, n in zip(least, natural, strict=True)], least, [1] * len(least)):
        while over > 0:
            widest = max(range(len(widths)), key=lambda i: (widths[i] - floor[i] > 0, widths[i]))
            if widths[widest] <= floor[widest]:
                break
            widths[widest] -= 1
            over -= 1
    return widths


def prose(text: str, width: int) -> str:
    """Lines wider than the page wrapped at words; drawings are left as they are."""
    return "\n".join(_wrapped(line, width) for line in _paragraphs(text, width))


def _paragraphs(text: str, width: int) -> list[str]:
    """The lines; those of an unindented paragraph joined where one of them is too wide, so that it is filled anew."""
    out: list[str] = []
    for plain, lines in groupby(text.split("\n"), lambda line: bool(line) and not line[0].isspace()):
        found = list(lines)
        drawn = any(ord(c) in _DRAWN for line in found for c in line)
        out += [" ".join(found)] if plain and not drawn and max(map(len, found)) > width else found
    return out


def _wrapped(line: str, width: int) -> str:
    drawn = sum(ord(c) in _DRAWN for c in line)
    columns = "    " in line.strip()  # aligned under something
    if len(line) <= width or drawn > len(line) // 8 or columns:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    hang = indent + "  " if indent else ""
    return textwrap.fill(
        line.strip(), max(width, 20), initial_indent=indent, subsequent_indent=hang, break_on_hyphens=False
    )
