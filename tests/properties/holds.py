"""What holds of every report, whatever was asked: sums, ranges, verdicts, money."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

from estimator.report import Node, Report
from estimator.trace import value_of

TALLY: Counter[str] = Counter()  # evaluations of each property, for docs/reliability.md
TOLERANCE = 1e-9  # of floats: sums in another order
SIGNED = re.compile(
    r"margin|delta|spare|saves|^error|difference|residual|gap|log|exponent|zero_point|code|q_min|scale|seconds_saved"
)


def count(name: str, n: int = 1) -> None:
    """Note that a property was evaluated."""
    TALLY[name] += n


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
    found, some = {k: v for k, v in made.results().items() if isinstance(v, int | float)}, False
    for key, best in found.items():
        ideal = None if key == "critical_batch" else found.get(f"{key}.ideal")  # of two rooflines, neither a bound
        ordered = [ideal, found.get(f"{key}.low"), best, found.get(f"{key}.high")]
        ordered = [*ordered[1:], ideal] if key in rates else ordered
        ordered = [v for v in ordered if v is not None]
        assert all(a <= b * (1 + TOLERANCE) for a, b in pairwise(ordered)), (key, ordered)
        some = some or len(ordered) > 1
    if some:
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


def held(made: Report) -> None:
    """All of them, of a report in numbers."""
    sums(made)
    ranges(made)
    verdicts(made)
    money(made)
