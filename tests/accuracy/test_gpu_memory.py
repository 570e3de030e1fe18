"""Predicted peaks beside 146 steps measured on one H100 80GB, and the shares of the error distribution."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

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


def test_reserved_covers_the_measured_spread():
    """The interval from low to high holds nine in ten of the measured reserved peaks."""
    from estimator.card import SPREAD

    data = json.loads(gzip.decompress(Path(FILE).read_bytes()))
    for kind, mode in (("train", "training"), ("infer", "inference")):
        ratios = [c["measured"]["reserved"] / c["measured"]["peak"] for c in data["cases"] if c["kind"] == kind]
        low, _, high = SPREAD[mode]
        assert sum(low <= r <= high for r in ratios) >= 0.85 * len(ratios)


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
