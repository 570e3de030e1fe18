"""Predicted peaks beside measured steps of TRL's reward and GRPO trainers, torchtune's and litgpt's models."""

from __future__ import annotations

import json
from statistics import median

import pytest

from estimator.commands.train.report import train
from estimator.config import Config
from estimator.errors import InputError
from estimator.models import Model
from tests.accuracy.test_stacks import HERE, cases, errors, predicted, spread


def of(stack):
    return errors("stacks_other", lambda c: c["id"].startswith(f"{stack}/"))


def test_trl():
    """Reward and GRPO: 15 of 17 within 0.4%.

    The two others hold rests of segments. The fp32 SmolLM2 135M's (2.4%) ``--allocator simulated`` follows to 0.01%. Of
    Qwen2.5 1.5B under NF4 (2.2%) the allocator's own trace has 0.04% more in tensors than the prediction, and 46 MiB
    that its blocks keep of 16-bit weights which were packed one by one.
    """
    found = of("reward") | of("grpo")
    assert len(found) == 17
    mid, _, worst = spread(found)
    assert mid <= 0.0001
    assert sum(abs(e) > 0.004 for e in found.values()) == 2
    assert worst <= 0.0246


def test_trl_late():
    """The six of them that were measured after the others were explained: at most 0.39% then, before what a
    checkpointed layer was given was seen to live as long as the layer's own backward pass."""
    found = errors("stacks_other", lambda c: c["late"] and c["id"].startswith(("reward", "grpo")))
    assert len(found) == 6
    mid, _, worst = spread(found)
    assert mid <= 0.0001
    assert worst <= 0.0011


def test_torchtune():
    found = of("torchtune")
    assert len(found) == 7
    mid, _, worst = spread(found)
    assert mid <= 0.002
    assert worst <= 0.0037


def test_litgpt():
    found = of("litgpt")
    assert len(found) == 5
    mid, _, worst = spread(found)
    assert mid <= 0.002
    assert worst <= 0.008


def test_the_reference_of_grpo():
    """A frozen copy stands where nothing is adapted and --reference asks for it; it scores before the step."""
    case = next(c for c in cases("stacks_other") if c["id"] == "grpo/llama-3.2-1b/b2s1024/answer_len=512")
    alone, beside = predicted(case), predicted(case, reference="policy")
    assert ("reference model", "weights") not in alone.base
    weights = beside.base["reference model", "weights"]
    assert beside.worst.peak - alone.worst.peak == weights


def test_an_answer_is_shorter_than_its_sequence():
    case = next(c for c in cases("stacks_other") if c["id"].startswith("grpo/llama"))
    with pytest.raises(InputError, match="--answer-len 4096: must be less than the whole sequence, 1024 tokens"):
        predicted(case, seq_len="1k", answer_len="4k")


def test_compiled_seconds():
    """train --compile beside the six steps that its shares were taken from: in sample, but for the host's."""
    data = json.loads((HERE / "compiled_times.json").read_text())
    found = {}
    for case in data["cases"]:
        options = {"batch_size": str(case["batch"]), "seq_len": str(case["seq"]), "steps": "1", "compile": True}
        options |= {"checkpointing": "full"} if case.get("ckpt") else {}
        options |= {"method": "lora", "rank": "16", "targets": "all-linear"} if case.get("lora") else {}
        model = Model(case["model"], "file", Config(data["configs"][case["model"]]))
        got = train(model, **options).results()
        best, low, high = (got[f"step_seconds{x}"] for x in ("", ".low", ".high"))
        seen = median(case["compiled"])
        found[case["model"]] = best / seen - 1
        assert low < seen < high
    mid, _, worst = spread(found)
    assert mid <= 0.03
    assert worst <= 0.15


def test_the_answer_alone_is_scored():
    """DPO's head and loss take the answer's tokens: half of them, or as many as --answer-len says."""
    given = {"steps": 1, "recipe": "dpo", "gpu": "h100-sxm", "batch_size": 4, "seq_len": 2048}
    half, eighth, most = (
        train("llama-3.2-1b", **given, answer_len=n).results()["step_seconds"] for n in (None, 256, 2047)
    )
    assert eighth < half < most
    assert train("llama-3.2-1b", **given | {"answer_len": 1024}).results()["step_seconds"] == half
