"""Sharded steps of models that the sharding code was not developed on: 47 steps on two H200s, torch 2.11."""

from __future__ import annotations

import gzip
import json
import statistics
from functools import cache
from pathlib import Path

import pytest

from estimator.config import Config
from estimator.families import build
from estimator.moments import Outcome, Workload, training

DATA = json.loads(gzip.decompress((Path(__file__).parent / "gpu_sharded_more.json.gz").read_bytes()))
CASES = DATA["cases"]
PHASES = ("forward", "backward", "step")


@cache
def outcome(index: int) -> Outcome:
    c = CASES[index]
    load = Workload(
        c["batch"], c["seq"], width=2 if c["precision"] == "bf16" else 4, amp=c["precision"] == "mixed",
        optimizer="adamw-fused", checkpointing="full" if c.get("checkpoint") else "none", gpus=c["dp"],
        stage=c["stage"],
    )  # fmt: skip
    return training(build(Config(DATA["configs"][c["model"]])), load)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[c["id"] for c in CASES])
def test_every_phase(index):
    for phase in PHASES:
        assert abs(outcome(index)[f"moments.{phase}_bytes"].peak / CASES[index][phase] - 1) < 0.05


def test_distribution():
    errors = sorted(abs(outcome(i).worst.peak / max(c[p] for p in PHASES) - 1) for i, c in enumerate(CASES))
    print(f"sharded peak, unseen: median {statistics.median(errors):.3%}, worst {errors[-1]:.2%} of {len(errors)}")
    assert statistics.median(errors) < 0.001
    assert errors[-1] < 0.02
