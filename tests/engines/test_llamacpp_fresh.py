"""Public load logs of llama.cpp and what is built on it, gathered after the engine was: figures to the printed digit.

``llamacpp_fresh.json`` keeps a model (a preset or the fields of its config.json), the options that the log or its page
states (and those that follow from what it prints), and the buffers in MiB (``want``: host and devices). ``off`` names
the figures that are not met, with why. Four rules came of these logs: rotary factors that lie on the host begin a new
stretch of the graph, caches without flash attention in blocks of 32 cells and an output layer that is offloaded last
(both in 2025's builds), and from which build on embeddings mix with tokens.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimator.commands.memory.question import Memory
from estimator.config import Config
from estimator.engines.llamacpp.question import asked
from estimator.models import Model, load_model
from estimator.questions import ask

MIB = 2**20
LOGS = json.loads((Path(__file__).parent / "llamacpp_fresh.json").read_text())
PARTS = ("weights", "cache", "states", "compute", "output")


@pytest.mark.parametrize("r", LOGS, ids=[r["id"] for r in LOGS])
def test_log(r):
    model = Model(r["id"], "file", Config(r["config"])) if "config" in r else load_model(r["model"])
    options = {k.replace("-", "_"): v for k, v in r["options"].items()}
    load = asked(ask(Memory, model, {**options, "engine": "llama.cpp", "mode": "inference"})).load
    got = {
        f"{'host' if i == 0 else f'dev{i - 1}'}.{part}": getattr(place, part) / MIB
        for i, place in enumerate(load.held) for part in PARTS
    }  # fmt: skip
    step = 1 if all(float(v).is_integer() for v in r["want"].values()) else 0.01
    missed = {k for k, v in r["want"].items() if abs(round(got.get(k, 0.0), 2) - v) > 1.01 * step}
    assert missed == set(r.get("off", {}))
