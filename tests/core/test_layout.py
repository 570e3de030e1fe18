"""Tables that fit the page, in the terminal and in LaTeX."""

from __future__ import annotations

import re

import pytest

from estimator.render.latex_math import broken, visible
from estimator.render.latex_tables import ROWS, tabular
from estimator.render.latex_text import breakable, escape
from estimator.render.layout import GAP, blocks, prose
from estimator.report import Cell, Table
from estimator.units import BYTES

COMMANDS = [
    "peft --method all",
    "zero --gpus 16 --tensor-parallel 4 --pipeline-parallel 2 --micro-batches 4 -s 4k --gpu h100-sxm",
    "chinchilla --compute 1e24",
    "fermi gpt3-cost",
    "infer --gpu h100-sxm --detail",
    "models llama",
    "explain lora",
]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_wider_than_the_terminal_and_no_number_is_broken(llmcalc, monkeypatch, command, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out = llmcalc(command).out
    drawn = re.compile("[\u2500-\u28ff]")
    lines = [line for line in out.split("\n") if not drawn.search(line) and "    " not in line]
    assert max(map(len, lines)) <= width
    monkeypatch.setenv("COLUMNS", "400")
    whole = set(re.findall(r"\b\d[\d,.]* [KMG]iB\b", llmcalc(command).out))
    assert whole <= set(re.findall(r"\b\d[\d,.]* [KMG]iB\b", out))


def test_columns_that_do_not_fit_are_continued_below():
    rows = tuple((f"row {i}", *(Cell(2**30 * j, BYTES) for j in range(1, 9))) for i in range(3))
    table = Table("", ("name", *(f"column {j}" for j in range(1, 9))), rows)
    cells = [[row[0], *("1.00 GiB" for _ in row[1:])] for row in rows]
    found = blocks(table, cells, 58)
    assert len(found) > 1
    assert all(columns[0] == 0 and sum(widths) + GAP * (len(widths) - 1) <= 58 for columns, widths in found)
    assert sorted(i for columns, _ in found for i in columns[1:]) == list(range(1, 9))


def test_drawings_and_columns_are_not_wrapped():
    bar, columns = "█" * 90, "GPU 0" + " " * 60 + "GPU 1"
    assert prose(f"{bar}\n{columns}\n{'word ' * 30}".rstrip(), 60).split("\n")[:2] == [bar, columns]
    assert all(len(line) <= 60 for line in prose("  " + "word " * 30, 60).split("\n"))


def test_options_keep_their_dashes_in_latex():
    assert escape("--gpus 8") == "-{}-gpus 8"
    assert breakable("a/b_c") == "a/\\allowbreak{}b\\_\\allowbreak{}c"


def test_a_long_formula_is_broken_into_rows_that_fit():
    terms = r" + ".join(rf"{i}\,L\,d_{{ff}}" for i in range(40))
    for math in (terms, rf"2\,\left({terms}\right)", rf"\frac{{{terms}}}{{8}}", rf"\left\lceil{{{terms}}}\right\rceil"):
        rows = broken(math, 58).split("\\\\\n  &\\quad ")
        assert len(rows) > 3
        assert max(visible(row) for row in rows) <= 60  # a trailing blank more or less
        assert all(row.count("{") == row.count("}") for row in rows)
        assert "\\left" not in "".join(rows)
    assert broken(r"\frac{16\,P}{N}", 58) == r"\frac{16\,P}{N}"


def test_a_long_latex_table_is_cut_at_a_page():
    lines = tabular(["a", "b"], [[str(i), "1"] for i in range(100)], [True, False], lambda text, _: text)
    assert sum(line.startswith("\\begin{tabular}") for line in lines) == -(-100 // ROWS)


def test_a_wide_latex_table_gets_smaller_type_then_wraps_then_is_continued():
    def first(columns: int, length: int) -> list[str]:
        rows = [["x" * 10, *("9" * length for _ in range(columns))]]
        return tabular(["n"] * (columns + 1), rows, [True, *[False] * columns], lambda text, _: text)

    assert first(2, 10)[0] == "\\begingroup\\centering"
    assert first(4, 12)[0] == "\\begingroup\\centering\\small"
    assert sum(line.startswith("\\begin{tabular}") for line in first(12, 12)) > 1
