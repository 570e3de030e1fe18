"""What DeepSpeed's stages have in common: runs that are taken for others are those others, to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.moments import _training, passes, trained_tensors
from estimator.moments.run import split_layers
from estimator.parallel.zero_standing import alike
from estimator.questions import ask
from estimator.trace import value_of

CASES = [("llama-3.2-1b", {}), ("gpt2", {"checkpointing": "full", "batch_size": 2}),
         ("qwen3-30b-a3b", {"method": "lora", "targets": "all-linear"}),
         ("gemma-3-1b", {"checkpointing": "full", "method": "qlora"})]  # fmt: skip


def load_of(model, options, stage):
    given = {"mode": "training", "recipe": "deepspeed", "gpus": 4, "stage": stage, "seq_len": 256}
    p = plan(ask(Memory, model, given | options))
    return p.share, p.load


def figures(outcome):
    return [(m.key, int(value_of(m.peak)), m.buffers()) for m in outcome.moments]


@pytest.mark.parametrize(("model", "options"), CASES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("offload", ["none", "optimizer"])
def test_stage_2_without_accumulation_is_stage_1(model, options, last, offload):
    arch, load = load_of(model, options | {"offload": offload}, 2)
    assert alike(arch, load, trained_tensors(arch, load))
    two, one = (_training(arch, replace(load, stage=stage, last=last)) for stage in (2, 1))
    assert figures(two) == figures(one)


def test_stage_1_keeps_gradients_too_large_for_a_bucket():
    """RecurrentGemma on two GPUs with the Trainer's buckets held 708 MB more than was said (sharded_blind.json.gz)."""
    arch, load = load_of("llama-3.2-1b", {"buckets": "auto", "gpus": 2}, 2)
    assert not alike(arch, load, trained_tensors(arch, load))
    two, one = (_training(arch, replace(load, stage=stage))["moments.backward_bytes"] for stage in (2, 1))
    held = [n for (where, what), n in one.buffers().items() if what == "weight gradient"]
    assert (one.peak > two.peak, max(held) > 0) == (True, True)


@pytest.mark.parametrize(("model", "options"), CASES)
def test_stage_0_takes_equal_layers_once(model, options, monkeypatch):
    arch, load = load_of(model, options, 0)
    once = _training(arch, load)

    def each(arch, load, m=None):
        return split_layers(arch, replace(load, stage=1), m)

    monkeypatch.setattr("estimator.moments.run.folds", lambda arch, load: False)
    assert len(split_layers(arch, load)) < len(each(arch, load)) == sum(
        int(value_of(s.times)) for s in split_layers(arch, load)
    )
    monkeypatch.setattr(passes, "split_layers", each)
    assert figures(once) == figures(_training(arch, load))
