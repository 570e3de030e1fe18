"""What is set without Rich is what Rich would have set, and is decided as Rich decides it."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from estimator.render.sheet import Column, Sheet, Span, _rich_grid, _rich_table, _rich_text, cells, sheet_for

WORDS = st.text(st.sampled_from("ab1.é█ -"), max_size=30).map(str.strip)
STYLES = st.sampled_from(["", "bold", "dim"])


class Stream(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def by_rich(what, width):
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(what)
    return [line.rstrip() for line in console.file.getvalue().removesuffix("\n").split("\n")]


def lines(sheet):
    return [line.rstrip() for line in sheet.lines]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "variables",
    [
        dict(pairs)
        for pairs in itertools.product(
            [("TERM", "xterm"), ("TERM", "dumb")],
            [("COLUMNS", ""), ("COLUMNS", "60"), ("COLUMNS", "9000")],
            [("NO_COLOR", ""), ("NO_COLOR", "1")],
            [("TTY_COMPATIBLE", ""), ("TTY_COMPATIBLE", "0"), ("TTY_COMPATIBLE", "1")],
            [("FORCE_COLOR", None), ("FORCE_COLOR", ""), ("FORCE_COLOR", "1")],
        )
    ],
    ids=lambda v: "-".join(str(x) for x in v.values()),
)
def test_width_and_colour_are_decided_as_rich_decides(monkeypatch, variables, terminal):
    for name, value in {**variables, "LINES": "25"}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    console, sheet = Console(file=Stream(terminal)), sheet_for(Stream(terminal))
    assert sheet.width == min(console.width, 400)
    assert sheet.coloured == (console.color_system is not None and not console.no_color)


@given(spans=st.lists(st.builds(Span, WORDS, STYLES), min_size=1, max_size=3), indent=st.sampled_from([0, 4]))
def test_paragraphs(spans, indent):
    from rich.padding import Padding

    sheet = Sheet(30, False)
    sheet.print(*spans, indent=indent)
    assert lines(sheet) == by_rich(Padding(_rich_text(spans), (0, 0, 0, indent)), 30)


@given(rows=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4), width=st.integers(20, 70))
def test_grids(rows, width):
    columns = [Column(fold=True), Column(right=True, wrap=False, fold=True), Column(wrap=False)]
    made = [[[Span(a), Span("\n  " + a, "dim")], [Span(b, "bold")], [Span(c)]] for a, b, c in rows]
    sheet = Sheet(width, False)
    sheet.grid(columns, made)
    assert lines(sheet) == by_rich(_rich_grid(columns, made), width)


@given(rows=st.lists(st.tuples(WORDS, WORDS), max_size=4), widths=st.tuples(st.integers(4, 30), st.integers(4, 30)))
def test_tables(rows, widths):
    sheet = Sheet(80, False)
    sheet.table(["a head", "an other"], rows, widths, [False, True], 2)
    assert lines(sheet) == by_rich(_rich_table(["a head", "an other"], rows, widths, [False, True], 2), 80)


def test_escape_sequences_stand_around_words_not_blanks():
    sheet = Sheet(40, True)
    rows = [[[Span("a", "bold")], [Span("1", "dim")]], [[Span("bc")], [Span("23")]]]
    sheet.grid([Column(), Column(right=True)], rows)
    assert sheet.lines == ["\x1b[1ma\x1b[0m    \x1b[2m1\x1b[0m", "bc  23"]


def test_wide_letters_are_counted_as_rich_counts_them():
    assert [cells(x) for x in ("abc", "é─█⣿", "模型", "e\u0301")] == [3, 4, 4, 1]
