"""LaTeX tables that fit a page: a smaller type, wrapped words, columns continued below, rows continued above a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

POINTS = 5.1  # across the text, a character of a line
CHARACTER = 5.2  # points of an average character of it; tables are full of digits and capitals
COLUMN_GAP = 12  # two \tabcolsep
SIZES = (("", 1.0), ("\\small", 0.92), ("\\footnotesize", 0.85))
SMALLEST = ("\\scriptsize", 0.76)  # before columns are continued below
DENSE = ("\\scriptsize\\renewcommand{\\arraystretch}{.9}", SMALLEST[1])  # on a page that must hold much else
ROWS = 45  # a tabular does not break over pages
STRUT = "\\rule[-1.1ex]{0pt}{3.4ex}"  # room for a fraction
LONG = 16  # characters below which a column of words is not wrapped
TALL = 12  # rows beyond which a table goes on beside itself, where the page must hold much else
NARROWED = 1.3  # times the room that it may then take before its words are wrapped


def tabular(
    columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[bool], escape: Callable[[str, int], str],
    room: int = 68, dense: bool = False,
) -> list[str]:
    """The lines of one table. ``words``: columns that may wrap; ``escape(text, column)``: a cell as LaTeX.

    room: characters of a line of text; dense: whether the page must hold much else.
    """
    if dense and len(rows) > TALL and (folded := _folded(columns, rows, words, POINTS * room)):
        n, (columns, rows, words), cell = len(columns), folded, escape
        escape = lambda text, i: cell(text, i % n if i >= 0 else i)  # noqa: E731
    # an indent of a tab is about two characters wide
    lengths = [max((_longest_line(row[i]) for row in [columns, *rows]), default=1) for i in range(len(columns))]
    least = [_least(columns, rows, i) if words[i] else lengths[i] for i in range(len(columns))]
    out: list[str] = []
    for taken, size, widths in _blocks(lengths, least, POINTS * room, (DENSE,) if dense else SIZES):
        for at in range(0, max(len(rows), 1), ROWS):
            out += _one(columns, rows[at : at + ROWS], taken, size, widths, words, escape)
    return out


def _folded(
    columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[bool], room: float
) -> tuple[Sequence[str], Sequence[Sequence[str]], Sequence[bool]] | None:
    """A table whose second half stands beside its first: columns, rows, which may wrap. None where it does not fit."""
    half = (len(rows) + 1) // 2
    pairs = zip(rows[:half], [*rows[half:], [""] * len(columns)], strict=False)
    folded = [[*left, *right] for left, right in pairs]
    lengths = [max(_longest_line(row[i]) for row in [[*columns] * 2, *folded]) for i in range(2 * len(columns))]
    wide = _width(list(range(len(lengths))), lengths, SMALLEST[1])
    return ([*columns] * 2, folded, [*words] * 2) if wide <= NARROWED * room else None


def _one(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    taken: list[int],
    size: str,
    widths: dict[int, float],
    words: Sequence[bool],
    escape: Callable[[str, int], str],
) -> list[str]:
    form = "".join(
        f"p{{{widths[i]:.0f}pt}}" if i in widths else "l" if words[i] else "r" for i in taken
    )

    def cell(text: str, i: int, plain: bool = False) -> str:
        made = escape(text, -1 if plain else i)
        return f"\\raggedright {made}" if i in widths else made

    # \raggedright redefines \\, so rows end in \tabularnewline
    lines = [" & ".join(cell(columns[i], i, True) for i in taken), "\\midrule"]
    lines += [" & ".join(cell(row[i], i) for i in taken) for row in rows]
    body = [
        line if line == "\\midrule" else line + (STRUT if "\\frac" in line else "") + " \\tabularnewline"
        for line in lines
    ]
    return [
        "\\begingroup\\centering" + size,
        f"\\begin{{tabular}}{{{form}}}",
        "\\toprule",
        *body,
        "\\bottomrule",
        "\\end{tabular}",
        "\\par\\endgroup\\smallskip",
        "",
    ]


def _blocks(
    lengths: list[int], least: list[int], room: float, sizes: Sequence[tuple[str, float]]
) -> list[tuple[list[int], str, dict[int, float]]]:
    """Groups of columns that fit: (columns, size of type, widths in points of the wrapped ones)."""
    every = list(range(len(lengths)))
    for size, scale in sizes:
        if _width(every, lengths, scale) <= room:
            return [(every, size, {})]
    for size, scale in (*sizes[-1:], SMALLEST):
        if _width(every, least, scale) <= room:
            return [(every, size, _wrapped(every, lengths, least, scale, room))]
    size, scale = SIZES[-1]
    out: list[tuple[list[int], str, dict[int, float]]] = []
    rest = every[1:]
    while rest or not out:
        taken = [0]
        while rest and (len(taken) == 1 or _width([*taken, rest[0]], least, scale) <= room):
            taken.append(rest.pop(0))
        out.append((taken, size, _wrapped(taken, lengths, least, scale, room)))
    return out


def _wrapped(taken: list[int], lengths: list[int], least: list[int], scale: float, room: float) -> dict[int, float]:
    """Points of each column that must be narrower than its longest cell, the longest first."""
    widths = {i: lengths[i] for i in taken}
    while _width(taken, widths, scale) > room:
        loose = [i for i in taken if widths[i] > least[i]] or [i for i in taken if widths[i] > LONG]
        if not loose:
            break
        widths[max(loose, key=lambda i: widths[i])] -= 1
    return {i: widths[i] * CHARACTER * scale for i in taken if widths[i] < lengths[i]}


def _width(taken: list[int], lengths: Sequence[int] | dict[int, int], scale: float) -> float:
    return sum(lengths[i] * CHARACTER * scale + COLUMN_GAP for i in taken)


def _least(columns: Sequence[str], rows: Sequence[Sequence[str]], i: int) -> int:
    words = max((len(w) for row in [columns, *rows] for w in row[i].split()), default=1)
    return min(max(words, LONG), max(_longest_line(row[i]) for row in [columns, *rows]))


def _longest_line(text: str) -> int:
    return max((len(line) + line.count("\t") for line in text.split("\n")), default=0)
