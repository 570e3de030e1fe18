"""Predicted peaks beside 188 further steps on an H100: models, sizes and methods that nothing was traced on before.

Before any of them was looked into the median error was 0.03%, the 95th percentile 2.3% and the worst 23% (ModernBERT,
whose logits and rotary embedding were taken as bf16).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from estimator.commands.validate.report import BARS, predictions, read, summary

FILE = str(Path(__file__).with_name("gpu_memory_more.json.gz"))


@pytest.fixture(scope="module")
def data():
    return read(FILE)


@pytest.fixture(scope="module")
def rows(data):
    return list(predictions(data))


def test_every_case_is_predicted(rows):
    assert len(rows) == 188
    assert [r.ident for r in rows if r.why] == []


def test_no_case_is_one_of_the_first_file(rows):
    first = {str(c["id"]) for c in read(str(Path(FILE).with_name("gpu_memory.json.gz")))["cases"]}
    assert not first & {r.ident for r in rows}


def test_peaks_agree(rows):
    median, p95, worst, mean = summary(rows)
    print(f"peak: median {median:.3f}% p95 {p95:.3f}% worst {worst:.2f}% mean {mean:+.3f}%")
    assert all(found <= bar for found, bar in zip((median, p95, worst), BARS, strict=True))
    assert median <= 0.05


@pytest.mark.parametrize(
    ("key", "p95"), [("load", 3), ("forward", 1.5), ("backward", 1.5), ("step", 3.5), ("prefill", 1.5), ("decode", 2)]
)
def test_moments_agree(rows, key, p95):
    found = summary(rows, key)
    print(key, found)
    assert found[0] <= 0.1
    assert found[1] <= p95


def test_every_family_agrees(rows, data):
    """The median of each family's errors, and its worst."""
    families: dict[str, list[float]] = {}
    for r, c in zip(rows, data["cases"], strict=True):
        families.setdefault(data["configs"][c["model"]]["model_type"], []).append(abs(r.errors["peak"]))
    assert len(families) >= 45
    print({k: (len(v), round(max(v), 2)) for k, v in sorted(families.items())})
    assert max(max(v) for v in families.values()) <= 4
