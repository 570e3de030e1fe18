"""A sheet of styled lines, as wide as the terminal and in its colours where it has any.

What fits is set here. What does not (a word wider than the sheet, a cell to be wrapped) is given to Rich, whose import
alone is a tenth of a cold command.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from estimator.records import NamedTuple

FILE_WIDTH = 100
WIDEST = 400  # a wider terminal gains nothing
CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}  # ECMA-48, select graphic rendition
GAP = 2  # blanks between two columns of a grid


class Span(NamedTuple):
    """Text in one style, a key of ``CODES`` or none."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """How a grid's column is set; where it does not fit, whether it is wrapped, and a long word cut or folded."""

    right: bool = False
    wrap: bool = True
    fold: bool = False


Row = Sequence[Sequence[Span]]  # cells, each of spans one after the other


def cells(text: str) -> int:
    """Columns of a terminal that a line takes; only of letters that are not surely one wide is Rich asked."""
    if text.isascii() or all((c < "\u0300" and c != "\xad") or "\u2500" <= c <= "\u25fc" for c in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _fits(line: str, width: int) -> bool:
    return "\t" not in line and cells(line) <= width


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, each filled with as many words as fit; none where a word has to be broken."""
    out = []
    for line in text.split("\n"):
        if _fits(line, width):
            out.append(line)
            continue
        words = line.split(" ")
        if not all(w and _fits(w, width) for w in words):  # blanks in a row may be meant: Rich keeps them
            return []
        filled = words[0]
        for word in words[1:]:
            if cells(filled) + 1 + cells(word) <= width:
                filled += " " + word
            else:
                out.append(filled)
                filled = word
        out.append(filled)
    return out


class Sheet:
    """Lines of at most ``width`` cells; escape sequences where it is ``coloured``."""

    def __init__(self, width: int, coloured: bool) -> None:
        self.width = width
        self.coloured = coloured
        self.lines: list[str] = []

    def text(self) -> str:
        """All lines, without trailing blanks, which only get in the way of copying."""
        return "\n".join([*(line.rstrip() for line in self.lines), ""])

    def print(self, *spans: Span, indent: int = 0, wrap: bool = True) -> None:
        """The spans one after the other, then a new line; what does not fit is wrapped, unless ``wrap`` is no."""
        lines = _text(spans).split("\n")
        if wrap and any(not _fits(line, self.width - indent) for line in lines):
            wrapped = "\n".join(_wrapped(_text(spans), self.width - indent))
            if not wrapped:
                from rich.padding import Padding

                return self._rich(Padding(_rich_text(spans), (0, 0, 0, indent)))
            spans = _divided(wrapped, spans)
        made = "".join(self._styled(*s) for s in spans)
        self.lines += [" " * indent + line for line in made.split("\n")]
        return None

    def grid(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Rows of cells of one or more lines, without a frame."""
        if not rows:
            return None
        plain = [[_text(cell).split("\n") for cell in row] for row in rows]
        widths = [max(cells(line) for cell in column for line in cell) for column in zip(*plain, strict=True)]
        room = self.width - GAP * (len(widths) - 1)
        if sum(widths) > room or any("\t" in s.text for row in rows for cell in row for s in cell):
            return self._rich(_rich_grid(columns, rows))
        for row, texts in zip(rows, plain, strict=True):
            styled = ["".join(self._styled(*s) for s in cell).split("\n") for cell in row]
            self._row(texts, styled, widths, columns, " " * GAP)
        return None

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool],
        indent: int,
    ) -> None:  # fmt: skip
        """A table with a rule below its head; its cells are wrapped to ``widths`` where they are wider."""
        lines = [[_wrapped(w, width) for w, width in zip(words, widths, strict=True)] for words in (head, *rows)]
        if any(not cell for cells_ in lines for cell in cells_):
            return self._rich(_rich_table(head, rows, widths, right, indent))
        columns = [Column(at_right) for at_right in right]
        most = max(map(len, lines[0]))
        lines[0] = [[""] * (most - len(cell)) + cell for cell in lines[0]]  # a head stands on its rule
        bold = [[self._styled(w, "bold") for w in cell] for cell in lines[0]]
        self._row(lines[0], bold, widths, columns, "   ", indent)
        self.lines.append(" " * indent + "─" * (sum(widths) + 3 * (len(widths) - 1)))
        for texts in lines[1:]:
            self._row(texts, texts, widths, columns, "   ", indent)
        return None

    def _row(
        self, plain: Sequence[list[str]], styled: Sequence[list[str]], widths: Sequence[int],
        columns: Sequence[Column], gap: str, indent: int = 0,
    ) -> None:  # fmt: skip
        """One row whose cells have one or more lines each, without and with their escape sequences."""
        for i in range(max(map(len, plain))):
            line = []
            for words, shown, width, column in zip(plain, styled, widths, columns, strict=True):
                word, set_ = (words[i], shown[i]) if i < len(words) else ("", "")
                blank = " " * (width - cells(word))
                line.append(blank + set_ if column.right else set_ + blank)
            self.lines.append(" " * indent + gap.join(line))

    def _styled(self, text: str, style: str) -> str:
        if not self.coloured or not style:
            return text
        return "\n".join(f"\x1b[{CODES[style]}m{line}\x1b[0m" if line else line for line in text.split("\n"))

    def _rich(self, what: Any) -> None:
        """What Rich makes of a thing that it can render."""
        from rich.console import Console

        buffer = io.StringIO()
        system: Any = "standard" if self.coloured else None
        Console(
            file=buffer, width=self.width, color_system=system, force_terminal=self.coloured, highlight=False,
            no_color=not self.coloured,
        ).print(what)  # fmt: skip
        self.lines += buffer.getvalue().removesuffix("\n").split("\n")


def sheet_for(stream: Any) -> Sheet:
    """An empty sheet for a stream: in colours where that is a terminal; 100 columns wide and plain for a file."""
    if stream is None:
        return Sheet(FILE_WIDTH, False)
    if os.name == "nt":  # what a console of Windows can do is asked of Windows
        from rich.console import Console

        found = Console(file=stream)
        return Sheet(min(found.width, WIDEST), found.color_system is not None and not found.no_color)
    terminal = _is_terminal(stream)
    dumb = terminal and os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    coloured = terminal and not dumb and not os.environ.get("NO_COLOR")
    return Sheet(min(_columns(dumb), WIDEST), coloured)


def _is_terminal(stream: Any) -> bool:
    """Whether a stream is to have escape sequences: as it says, unless a variable says otherwise (as in Rich)."""
    told = os.environ.get("TTY_COMPATIBLE", "")
    if told in ("0", "1"):
        return told == "1"
    forced = os.environ.get("FORCE_COLOR")  # https://force-color.org
    if forced is not None:
        return forced != ""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no file, or a closed one
        return False


def _columns(dumb: bool) -> int:
    """Columns of the terminal that any of the standard streams is, unless it is dumb; ``COLUMNS`` says otherwise."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal():
        return int(told) or 80
    for stream in () if dumb else range(3):
        try:
            return os.get_terminal_size(stream).columns or 80
        except (AttributeError, ValueError, OSError):  # closed, or no terminal
            continue
    return 80


def _text(spans: Sequence[Span]) -> str:
    return "".join(s.text for s in spans)


def _divided(wrapped: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    """The wrapped text of spans, whose blanks became ends of lines, in their styles."""
    ends = [*accumulate(len(s.text) for s in spans)]
    return tuple(Span(wrapped[end - len(s.text) : end], s.style) for s, end in zip(spans, ends, strict=True))


def _rich_text(spans: Sequence[Span]) -> Any:
    from rich.text import Text

    return Text.assemble(*((s.text, s.style) for s in spans))


def _rich_grid(columns: Sequence[Column], rows: Sequence[Row]) -> Any:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    for c in columns:
        justify: Any = "right" if c.right else "left"
        table.add_column(justify=justify, no_wrap=not c.wrap, overflow="fold" if c.fold else "ellipsis")
    for row in rows:
        table.add_row(*map(_rich_text, row))
    return table


def _rich_table(head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool],
                indent: int) -> Any:  # fmt: skip
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 1))
    for title, width, at_right in zip(head, widths, right, strict=True):
        table.add_column(title, justify="right" if at_right else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*(_rich_text([Span(word)]) for word in row))
    return Padding(table, (0, 0, 0, indent))
