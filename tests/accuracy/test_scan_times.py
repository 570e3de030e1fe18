"""Seconds of recurrent layers without mamba-ssm's kernels, beside what was measured (benchmarks/measure_scans.py).

A step of Codestral-Mamba's 64 layers takes 9.2 s at 1 x 1,024: every pair of a chunk is written out for every number of
a state. No constant was fitted to these.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimator.commands.flops.passes import plan
from estimator.commands.flops.question import Flops
from estimator.commands.train.question import Train
from estimator.commands.train.run import Run
from estimator.commands.train.step import run_once, step_times
from estimator.config import Config
from estimator.models import Model
from estimator.parallel.degrees import Degrees
from estimator.questions import ask
from estimator.recipes import find_recipe
from estimator.serving import setup

DATA = json.loads(Path(__file__).with_name("scan_times.json").read_text())
TIMES = {(c["kind"], c["seq"], c["layers"]): c["step_s"] for c in DATA["cases"]}
# a scan of 256 tokens is bound by the host, whose launches the constants take from slower hosts
BARS = {("mamba2", 512): 0.08, ("mamba2", 1024): 0.08, ("falcon_mamba", 256): 0.35, ("falcon_mamba", 512): 0.13}


def predicted(kind: str, seq: int, layers: int) -> float:
    raw = {"model_type": kind, "num_hidden_layers": layers, "vocab_size": 1024, "expand": 2} | DATA["shapes"][kind]
    model = Model("small", "file", Config(raw))
    accelerator = setup.setup(model, "h100-sxm", 1, "bf16", None, "none", "transformers", True)[0].machine
    made = plan(ask(Flops, model, {"mode": "training", "batch_size": 1, "seq_len": seq}))
    recipe, run = find_recipe("torch-bf16"), Run(ask(Train, model), Degrees(1))
    return float(step_times(made, recipe, run, accelerator, "bf16", run_once(made, recipe, run, "bf16")).total)


@pytest.mark.parametrize(("kind", "seq"), BARS)
def test_two_layers_take_as_long_as_measured(kind: str, seq: int) -> None:
    got = predicted(kind, seq, 4) - predicted(kind, seq, 2)
    want = TIMES[kind, seq, 4] - TIMES[kind, seq, 2]
    print(f"{kind} {seq}: {got / want - 1:+.3f}")
    assert abs(got / want - 1) < BARS[kind, seq]


def test_codestral_takes_nine_seconds() -> None:
    """64 layers as measured."""
    assert 32 * (TIMES["mamba2", 1024, 4] - TIMES["mamba2", 1024, 2]) == pytest.approx(9.18, abs=0.01)
