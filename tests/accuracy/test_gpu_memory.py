"""Predicted peaks beside 146 steps measured on one H100 80GB, and the shares of the error distribution."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path

import pytest

from estimator.card import COVERED, SPREAD
from estimator.commands.validate.report import predictions, read, summary, validate

FILE = str(Path(__file__).with_name("gpu_memory.json.gz"))


@pytest.fixture(scope="module")
def rows():
    return list(predictions(read(FILE)))


def test_every_case_is_predicted(rows):
    assert len(rows) == 146
    assert [r.ident for r in rows if r.why] == []


def test_peaks_agree(rows):
    median, p95, worst, mean = summary(rows)
    print(f"peak: median {median:.3f}% p95 {p95:.3f}% worst {worst:.2f}% mean {mean:+.3f}%")
    assert median <= 0.1
    assert p95 <= 2
    assert worst <= 4


@pytest.mark.parametrize(
    ("key", "median", "p95"),
    [
        ("load", 0.2, 3),
        ("forward", 0.1, 1.5),
        ("backward", 0.1, 1.5),
        ("step", 0.1, 3.5),
        ("prefill", 0.25, 1.5),
        ("decode", 0.3, 2),
    ],
)
def test_moments_agree(rows, key, median, p95):
    found = summary(rows, key)
    print(key, found)
    assert found[0] <= median
    assert found[1] <= p95


def reserved_ratios(kind, *names):
    """model -> measured reserved over allocated peaks."""
    found = {}
    for name in names:
        for c in json.loads(gzip.decompress(Path(FILE).with_name(f"{name}.json.gz").read_bytes()))["cases"]:
            if c["kind"] == kind:
                found.setdefault(c["model"], []).append(c["measured"]["reserved"] / c["measured"]["peak"])
    return found


def percentiles(found):
    ratios = sorted(r for rs in found.values() for r in rs)
    return tuple(ratios[int(share * len(ratios))] for share in (0.05, 0.5, 0.95))


def test_reserved_in_inference():
    """The range is what all 75 runs give; a model's own runs lie inside the range of the others in 89 of 100."""
    found = reserved_ratios("infer", "gpu_memory", "gpu_memory_more")
    assert (len(found), sum(map(len, found.values()))) == (68, 75)
    assert [round(Fraction(r), 3) for r in percentiles(found)] == list(SPREAD["inference"])
    inside = 0
    for model, ratios in found.items():
        low, _, high = percentiles({k: v for k, v in found.items() if k != model})
        inside += sum(low <= r <= high for r in ratios)
    assert int(100 * inside / 75) == COVERED["inference"]


def test_reserved_in_training():
    """The range of the first 121 runs holds 88 of 100 of them, and as many of the 138 that came later."""
    low, _, high = SPREAD["training"]
    shares = []
    for name in ("gpu_memory", "gpu_memory_more"):
        ratios = [r for rs in reserved_ratios("train", name).values() for r in rs]
        shares.append((len(ratios), int(100 * sum(low <= r <= high for r in ratios) / len(ratios) + 0.5)))
    print(shares)
    assert shares == [(121, 88), (138, COVERED["training"])]


def test_validate_prints_the_table(llmcalc):
    ran = llmcalc(f"validate {FILE} --format json")
    assert ran.code == 0
    assert ran.results["cases"] == 146
    assert ran.results["error.median"] <= 0.1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cases": []}', '{"cases": [1], "configs": {}}', "\x1f\x8b"])
def test_validate_refuses_other_files(llmcalc, tmp_path, text):
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("latin-1"))
    ran = llmcalc("validate", path)
    assert ran.code == 2
    assert ran.err.count("\n") == 1


def test_validate_names_what_it_read():
    assert validate(FILE).inputs == {"file": "gpu_memory.json.gz"}
