"""Predicted peaks beside 71 steps on an H100 of small models whose mixers, experts or streams are not a Llama's.

Before any of them was looked into the median error was 0.33%, the 95th percentile 8.1% and the worst 16% (Gemma 3n's
copies of the stream).
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.commands.memory.stack import micro_batches
from estimator.commands.validate.report import BARS, RECIPES, options_of, predictions, read, summary
from estimator.config import Config
from estimator.models import Model
from estimator.moments.pooled import pooled
from estimator.questions import ask

FILE = str(Path(__file__).with_name("gpu_mixers.json.gz"))


@pytest.fixture(scope="module")
def data():
    return read(FILE)


@pytest.fixture(scope="module")
def rows(data):
    return list(predictions(data))


def test_every_case_is_predicted(rows, data):
    assert [r.ident for r in rows if r.why] == []
    assert len(rows) == 71
    assert len({c["model_type"] for c in data["configs"].values()}) == 25


def test_peaks_agree(rows):
    found = summary(rows)
    print(found)
    assert all(got <= bar for got, bar in zip(found, BARS, strict=False))
    assert found[0] <= 0.25


def test_a_recomputed_recurrence_stays_until_its_layer_runs_again(rows):
    """RecurrentGemma's module names the last state, and so all that the second run saved: through the step."""
    kept = next(r for r in rows if r.ident.startswith("train/recurrent_gemma-s/amp"))
    assert abs(kept.errors["step"]) < 0.3
    assert abs(kept.errors["backward"]) < 0.35


@pytest.mark.parametrize("key", ["forward", "backward", "step", "prefill", "decode"])
def test_moments_agree(rows, key):
    """Of models of half a gigabyte: rests of segments alone are a percent of the smallest."""
    found = summary(rows, key)
    assert found[0] <= 0.5
    assert found[1] <= 4


def test_with_the_allocator(data):
    """Block by block the rests are counted too."""
    found = []
    for c in data["cases"][::3]:
        config = data["configs"][c["model"]]
        if c["kind"] == "train":
            q = ask(Memory, Model(c["model"], "file", Config(config)),
                    options_of(c) | {"mode": "training", "recipe": RECIPES[c["precision"]]})  # fmt: skip
            p = plan(q)
            made = pooled(p.arch, p.load, micro_batches(q))
            found.append(abs(made.allocated / c["measured"]["peak"] - 1))
    print(sorted(found))
    assert len(found) > 12
    assert median(found) <= 0.001
    assert max(found) <= 0.03
