"""What holds of every report of every command: sums, ranges, money, formats, verdicts."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from estimator.render import FORMATS, to_text
from estimator.report import Node, Report
from estimator.trace import value_of
from estimator.units import human
from tests.properties.asked import count, lines, models, report, some, surface_of

TOLERANCE = 1e-9  # of floats: sums in another order
SIGNED = re.compile(
    r"margin|delta|spare|saves|^error|difference|residual|gap|log|exponent|zero_point|code|q_min|scale|seconds_saved"
)


def near(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def walk(made: Report) -> list[Node]:
    return list(made.nodes())


def sums(made: Report) -> None:
    """Every part is at least 0, and a sum or a largest is that of its parts."""
    for node in walk(made):
        if node.value is None or node.unit is None:
            continue
        value = value_of(node.value)
        if isinstance(value, float):
            assert not math.isnan(value), node.label
        if node.unit.counted and not SIGNED.search(node.key):
            assert value >= 0, (node.key, node.label, value)
        parts = [value_of(c.value) for c in node.children if c.value is not None]
        if not parts:  # the parts' shapes, in words
            continue
        if node.how == "sum":
            assert near(value, sum(parts)), (node.key, node.label, value, parts)
        elif node.how == "max":
            assert value == max(parts), (node.key, node.label, value, parts)
    count("parts are >= 0 and sum to the whole")


def ranges(made: Report) -> None:
    """ideal <= low <= best <= high, for whatever has them; of a rate the ideal is the most."""
    rates = {n.key for n in walk(made) if n.unit is not None and n.unit.name == "tokens/s"}
    found = {k: v for k, v in made.results().items() if isinstance(v, int | float)}
    for key, best in found.items():
        ideal = None if key == "critical_batch" else found.get(f"{key}.ideal")  # of two rooflines, neither a bound
        ordered = [ideal, found.get(f"{key}.low"), best, found.get(f"{key}.high")]
        ordered = [*ordered[1:], ideal] if key in rates else ordered
        ordered = [v for v in ordered if v is not None]
        assert all(a <= b * (1 + TOLERANCE) for a, b in pairwise(ordered)), (key, ordered)
    count("ideal <= low <= best <= high")


def verdicts(made: Report) -> None:
    """The verdict follows from what is needed and what is there."""
    found, fits = made.results(), made.facts.get("fits")
    if fits in ("yes", "tight", "no") and {"need_bytes", "have_bytes", "need_bytes.low"} <= found.keys():
        low, high, have = found["need_bytes.low"], found["need_bytes.high"], found["have_bytes"]
        assert fits == ("yes" if high <= have else "no" if low > have else "tight")
        assert found["margin_bytes"] == have - found["need_bytes"]
        count("verdicts follow from need and have")


def money(made: Report) -> None:
    """usd = gpu_hours x price, hours x GPUs = GPU-hours."""
    found = made.results()
    if made.command == "train" and found.get("usd") is not None:
        price = made.inputs.get("price")
        if price is not None:
            assert near(found["usd"], found["gpu_hours"] * float(price))
        assert near(found["gpu_hours"], found["hours"] * (made.inputs.get("gpus") or 1))
        assert near(found["days"] * 24, found["hours"])
        count("usd = gpu_hours x price")


_DRESS = (
    ("\\allowbreak{}", ""), ("\\_", "_"), ("\\%", "%"), ("\\$", "$"), ("{,}", ","), ("$\\mu$", "µ"),
    ("$\\times$", "×"), ("&nbsp;", " "), ("\\cdot", "·"),
)  # fmt: skip


_POWER = re.compile(r"\$(-?[\d.]+) · 10\^\{(-?\d+)\}\$")  # as LaTeX has 1.057e+94


def plain(text: str) -> str:
    """A rendering without what its format adds."""
    for a, b in _DRESS:
        text = text.replace(a, b)
    return " ".join(_POWER.sub(lambda m: f"{m[1]}e{int(m[2]):+03d}", text).split())


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
    if made is None or made.symbolic:
        return
    sums(made)
    ranges(made)
    verdicts(made)
    money(made)
    if plain_table:
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
    if made is not None:
        money(made)
        ranges(made)
