"""CI runs every test: whatever its markers, a line of pytest that ``.ci/run`` comes to selects it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

ROOT = Path(__file__).parents[2]
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
MARKERS = sorted(m.partition(":")[0] for m in OPTIONS["markers"])


def selected() -> Iterator[Expression]:
    """The markers of each line of pytest in a target of the Makefile that ``.ci/run`` makes."""
    made = re.findall(r"\bmake (\w+)", (ROOT / ".ci/run").read_text())
    for target, recipe in re.findall(r"^(\w+):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M):
        for quoted, bare in re.findall(r"\(PYTEST\).* -m (?:'([^']+)'|(\w+))", recipe) if target in made else ():
            yield Expression.compile(quoted or bare)


@pytest.mark.parametrize("marker", ["", *MARKERS])
@pytest.mark.parametrize("drawn", [True, False])
def test_ci_runs_every_test(marker, drawn):
    """Of each marker, also where the case is one of those that ``make test`` leaves to ``make thorough``."""
    marks = {marker} if drawn else {marker, "thorough"}
    assert any(e.evaluate(lambda name, **_: name in marks) for e in selected())


def test_two_lines_run_no_test_twice():
    for marks in ({""}, {"thorough"}, {"whole"}):
        assert sum(e.evaluate(lambda name, marks=marks, **_: name in marks) for e in selected()) == 1
