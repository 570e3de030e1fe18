"""What a step needs on a card, of which another card's run may have said it, is what the card's own run says."""

from __future__ import annotations

import pytest

from estimator.card import find_card
from estimator.commands.memory import needed as room
from estimator.commands.memory.needed import fullest, needed
from estimator.commands.memory.plan import plan, simulate
from estimator.commands.memory.question import Memory
from estimator.presets import ids
from estimator.questions import ask

STEPS = [
    ("llama-3.2-1b", {}),
    ("llama-3.2-1b", {"method": "lora", "checkpointing": "full", "batch_size": 4}),
    ("llama-3.2-1b", {"method": "qlora", "recipe": "unsloth", "seq_len": 4096}),
    ("gemma-3-1b", {"gpus": 4, "stage": 3, "accumulation": 4}),
    ("gpt2", {"batch_size": 8}),  # whose biases' sums follow the threads of a card
    ("qwen2.5-0.5b", {"batch_size": 4, "recipe": "torch-fp32"}),
    ("mixtral-8x7b", {"recipe": "deepspeed", "gpus": 8, "stage": 2}),
    ("llama-3.2-1b", {"gpus": 4, "pipeline_parallel": 2, "micro_batches": 4}),
    ("llama-3.2-1b", {"recipe": "megatron"}),
]


@pytest.mark.parametrize(("model", "options"), STEPS)
def test_on_every_card(model, options):
    room._known.cache_clear()
    given = {"seq_len": 1024, "mode": "training", **options}
    here = plan(ask(Memory, model, given))
    cards = {find_card(name).kernels: name for name in ids("gpus")}
    for card, name in cards.items():
        own = plan(ask(Memory, model, {**given, "gpu": name}))
        alone = int(fullest(own, simulate(own)))
        assert needed(own) == needed(here, card) == alone, name


def test_a_step_is_run_once_for_the_cards_that_say_the_same(monkeypatch):
    room._known.cache_clear()
    ran = []
    monkeypatch.setattr(room, "simulate", lambda p: ran.append(p) or simulate(p))
    p = plan(ask(Memory, "llama-3.2-1b", {"mode": "training", "seq_len": 1024}))
    cards = {find_card(name).kernels for name in ids("gpus")}
    assert len({needed(p, card) for card in cards}) > 2  # workspaces, and the kernel of attention
    assert len(ran) == len({card.flash for card in cards}) < len(cards)
