"""Prefills that the host bounds, beside 16 measured on a quiet host and the same on a busy one of the same kind."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from estimator import presets
from estimator.commands.infer.report import infer
from estimator.models import load_model

RUNS = json.loads(Path(__file__).with_name("launch_times.json").read_text())["runs"]
PREFILLS = [(name, size) for name, sizes in RUNS["quiet"]["real"].items() for size in sizes]


def test_a_quiet_host_launches_as_measured() -> None:
    """gpt2-xl at 1 x 512 was 29% too fast while a launch took the same time in every class."""
    errors, busy = [], []
    for name, size in PREFILLS:
        b, s = (int(x) for x in size.split(" x "))
        got = infer(load_model(name), batch_size=b, seq_len=s, new_tokens=8).results()
        want = RUNS["quiet"]["real"][name][size]["prefill_s"]
        errors.append(abs(got["prefill_seconds"] / want - 1))
        assert got["prefill_seconds.low"] <= want <= got["prefill_seconds.high"]
        slow = RUNS["busy"]["real"][name][size]["prefill_s"]
        busy.append(got["prefill_seconds.low"] <= slow <= got["prefill_seconds.high"])
    print(f"{len(errors)} prefills: median {median(errors):.1%}, largest {max(errors):.1%}")
    assert median(errors) < 0.04
    assert max(errors) < 0.08
    print(f"inside the range on the busy host: {sum(busy)}")
    assert sum(busy) >= 15


@pytest.mark.parametrize("gpu", presets.ids("gpus")[::12])
def test_no_estimate_beats_its_ideal(gpu: str) -> None:
    from estimator.errors import InputError

    for name in ("gpt2", "deepseek-v2-lite", "mixtral-8x7b", "t5-small"):
        for b, s, engine in ((1, 512, "transformers"), (64, 2048, "transformers"), (1, 512, "fused")):
            try:
                r = infer(load_model(name), gpu=gpu, new_tokens=8, batch_size=b, seq_len=s, engine=engine).results()
            except InputError:  # no matrix peak in this preset
                continue
            for key in ("prefill_seconds", "decode_step_seconds"):
                assert r[f"{key}.ideal"] <= r[f"{key}.low"] <= r[key] <= r[f"{key}.high"]
