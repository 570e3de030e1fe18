"""What holds of every report of every command: sums, ranges, money, verdicts (tests/properties/holds.py), formats."""

from __future__ import annotations

import csv
import io
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from estimator.render import FORMATS, to_text
from estimator.report import Node, Report
from estimator.trace import value_of
from estimator.units import human
from tests.properties.asked import lines, models, report, some, surface_of
from tests.properties.holds import count, near

_DRESS = (
    ("\\allowbreak{}", ""), ("\\_", "_"), ("\\%", "%"), ("\\$", "$"), ("{,}", ","), ("$\\mu$", "µ"),
    ("$\\times$", "×"), ("&nbsp;", " "), ("\\cdot", "·"),
)  # fmt: skip


_POWER = re.compile(r"\$(?:(-?[\d.]+) · )?10\^\{(-?\d+)\}\$")  # as LaTeX has 1.057e+94, and 1e+21


def plain(text: str) -> str:
    """A rendering without what its format adds."""
    for a, b in _DRESS:
        text = text.replace(a, b)
    return " ".join(_POWER.sub(lambda m: f"{m[1] or 1}e{int(m[2]):+03d}", text).split())


def formats(made: Report) -> None:
    """Every number stands in every format, to the digit."""
    found = json.loads(to_text(made, "json"))["results"]
    for key, value in made.results().items():
        assert found[key] == value or near(float(found[key]), float(value)), key
    rows = list(csv.reader(io.StringIO(to_text(made, "csv"))))
    if rows[0][:2] == ["key", "value"]:
        cells = {row[0]: row[1] for row in rows[1:]}
        for key, value in found.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert key in cells, key
                assert cells[key] == str(value) or float(cells[key]) == float(value), (key, cells[key], value)
    shown = [n for part in made.body if isinstance(part, Node) for n in part.walk()]
    for name in FORMATS:
        if name in ("json", "csv"):
            continue
        text = plain(to_text(made, name, detail=True) if name == "table" else to_text(made, name))
        for node in shown:
            if node.value is not None and node.unit is not None:
                want = human(value_of(node.value), node.unit)
                head = want.split(" ")[0]
                assert head in text, (name, node.label, want)
        count("formats agree to the digit")
    count("formats agree to the digit")


@given(argv=lines(), model=models(), plain_table=st.booleans())
@some(120)
def test_any_report(argv, model, plain_table):
    asked = [*argv, "--model", model] if "--model" in surface_of(argv).flags and argv[0] != "chinchilla" else argv
    made = report(asked)
    if made is not None and not made.symbolic and plain_table:
        formats(made)


@given(
    lines("train", without=("--gpu", "--gpus", "--price", "--tokens", "--check-fit")),
    models(),
    st.sampled_from(("h100-sxm", "a100-40gb", "rtx-4090", "mi300x")),
    st.integers(1, 64),
    st.integers(1, 900),
)
@some(20)
def test_money(argv, model, card, gpus, cents):
    more = ["--gpu", card, "--gpus", str(gpus), "--price", f"{cents / 100:.2f}", "--tokens", "1G"]
    made = report([*argv, "--model", model, *more])
    if made is not None and not made.symbolic:
        formats(made)
