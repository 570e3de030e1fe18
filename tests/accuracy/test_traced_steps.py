"""Peaks of single steps beside the allocations of the real modeling files, traced on tensors without data
(benchmarks/trace_steps.py).

Three layers and a vocabulary of 512, so that the layers decide, not the logits; bytes above what stands before the
step (torch 2.11, transformers 5.17). Accumulating gradients in place is not seen there, so backward may read higher.
Nor is what a kernel holds inside: a softmax's backward kernel writes the gradient times the result out (seen in the
allocator's history of an H100), so steps that run one are only bounded from below; a sum over rows holds partial sums
(estimator/stack/sums.py), which are left out of the prediction here.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from estimator.commands.memory.plan import MemoryPlan, plan, simulate
from estimator.commands.memory.question import Memory
from estimator.config import Config
from estimator.models import Model
from estimator.questions import ask
from estimator.stack import nn

DATA = json.loads(gzip.decompress(Path(__file__).with_name("traced_steps.json.gz").read_bytes()))
RECIPES = {"bf16": "torch-bf16", "amp": "torch-mixed"}
# SDPA runs these in PyTorch's math path, or not at all
MATH = ("bloom", "gpt_neo", "gptj", "gpt_oss", "mpt", "falcon", "t5")


def planned(model: Model, mode: str, recipe: str | None = None, **options: Any) -> MemoryPlan:
    return plan(ask(Memory, model, {"mode": mode, "recipe": recipe, **options}))


def errors():
    for c in DATA["cases"]:
        train = c["kind"] == "train"
        options = {"batch_size": c["batch"], "seq_len": c["seq"], "attention": c.get("attn", "sdpa")}
        if train:
            options |= {"optimizer": "sgd", "checkpointing": "full" if c.get("checkpoint") else "none"}
        else:
            options |= {"new_tokens": c["new_tokens"], "logits": "last"}
        model = Model(c["model"], "file", Config(DATA["configs"][c["model"]]))
        done = simulate(
            planned(
                model,
                c["kind"].replace("train", "training").replace("infer", "inference"),
                RECIPES.get(c.get("precision")),
                **options,
            )
        )
        load = done["moments.load_bytes"].peak
        for key in ("forward", "backward") if train else ("prefill", "decode"):
            got = done[f"moments.{key}_bytes"].peak - load - (done.states if train else 0)
            softmax = c.get("attn") == "eager" or DATA["configs"][c["model"]]["model_type"] in MATH
            where = "backward through a softmax" if softmax and key == "backward" else key
            yield (c["model"], c["kind"], where), (got - c[key]) / max(c[key], 1)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn, "scratch", lambda *_: 0)
        return list(errors())


@pytest.mark.parametrize(
    ("key", "mid", "p90"), [("forward", 0.002, 0.06), ("backward", 0.002, 0.03), ("prefill", 0.005, 0.06)]
)
def test_every_family_agrees(found, key, mid, p90):
    values = sorted(abs(e) for (_, _, k), e in found if k == key)
    print(
        key, len(values), f"median {median(values):.3%} p90 {values[int(0.9 * len(values))]:.2%} worst {values[-1]:.2%}"
    )
    assert median(values) <= mid
    assert values[int(0.9 * len(values))] <= p90


def test_a_softmax_only_adds_to_the_backward_pass(found):
    values = sorted(e for (_, _, k), e in found if k == "backward through a softmax")
    assert values[0] >= -0.01
    assert values[-1] <= 0.3
