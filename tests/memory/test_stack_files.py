"""Unsloth and Axolotl: what their sources say they keep, as differences from other stacks."""

from __future__ import annotations

import pytest

from estimator.commands.memory.plan import plan, simulate
from estimator.commands.memory.question import Memory
from estimator.questions import ask

LAYERS, HIDDEN, WIDTH, TOKENS = 16, 2048, 8192, 2048  # of llama-3.2-1b, whose queries are as wide as the model
LORA = {"method": "lora", "rank": "16", "targets": "all-linear", "seq_len": str(TOKENS)}


def run(recipe, **more):
    q = ask(Memory, "llama-3.2-1b", {"mode": "training", "recipe": recipe} | LORA | more)
    return simulate(plan(q))


def kept(outcome):
    """What the layers hold where the loss is."""
    live = outcome["moments.forward_bytes"].buffers()
    return sum(v for (where, _), v in live.items() if where in ("layer", "attention", "MLP"))


def test_axolotls_adapters():
    """No silu and no gated product, one input for q, k and v, one for gate and up, none of their own for o and down."""
    less = kept(run("trainer")) - kept(run("axolotl"))
    own = 2 * 2 * WIDTH + 3 * 2 * HIDDEN + 2 * HIDDEN  # silu, down's input; of five inputs two are left; o's
    assert less == pytest.approx(LAYERS * TOKENS * own, rel=0.02)
    full = {"method": None, "rank": None, "targets": None}
    assert run("trainer", **full).worst.peak == run("axolotl", **full).worst.peak


def test_unsloths_checkpoints_lie_on_the_host():
    """No residual of a layer stands where --checkpointing is not said, and the step is less than TRL's with Liger."""
    one = run("unsloth")
    standing = one["moments.forward_bytes"].buffers()["layer", "residual"]
    assert standing == 2 * HIDDEN * TOKENS  # what the last of sixteen layers gave
    assert one.worst.peak < run("unsloth", checkpointing="full").worst.peak
    assert one.worst.peak < run("sft", checkpointing="full", kernels="liger").worst.peak
