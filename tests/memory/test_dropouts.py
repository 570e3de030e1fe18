"""Where a training step drops: what a stack sets to 0, and what it does not reach."""

from __future__ import annotations

import pytest

from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.config import Config
from estimator.models import Model, load_model
from estimator.questions import ask


def drops(recipe, name, **fields):
    raw = load_model(name).config.raw | fields
    options = {"mode": "training", "recipe": recipe, "seq_len": "64", "method": "lora",
               "targets": "all-linear"}  # fmt: skip
    return plan(ask(Memory, Model(name, "file", Config(raw)), options)).load.drops


@pytest.mark.parametrize("recipe", ["dpo", "reward"])
def test_calls_outlive_disable_dropout(recipe):
    """OPT calls torch.nn.functional.dropout; GPT-2 has modules, whose probability TRL sets to 0."""
    called = drops(recipe, "opt-125m", dropout=0.1)
    assert called.mixer
    assert called.branch
    assert called.silent
    assert not any(drops(recipe, "gpt2", resid_pdrop=0.1)._replace(silent=False))


def test_the_trainer_sets_nothing_to_zero():
    assert drops("trainer", "gpt2", resid_pdrop=0.1).branch
    assert not drops("trainer", "opt-125m", dropout=0.1).silent


def test_residual_and_embedding_dropouts():
    found = drops("trainer", "starcoder2-3b", residual_dropout=0.1, embedding_dropout=0.1)
    assert found.embedding
    assert found.mixer
    assert found.branch
