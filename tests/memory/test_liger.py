"""Liger replaces what its own list says of the model's type, and nothing else."""

import pytest

LINE = "memory --model {} --mode training --recipe trainer --seq-len 512 --kernels {} --format json"


@pytest.mark.parametrize(
    ("model", "changes"), [("gpt2", False), ("llama-3.2-1b", True), ("gemma-2-2b", True), ("pythia-160m", False)]
)
def test_forward_of_known_types(llmcalc, model, changes):
    plain, liger = (llmcalc(LINE.format(model, k)) for k in ("torch", "liger"))
    assert (plain.results["moments.forward_bytes"] > liger.results["moments.forward_bytes"]) == changes
    assert ("does not know" in liger.out) != changes


def test_an_unfused_loss_keeps_the_logits(llmcalc):
    ran = llmcalc(LINE.format("granite-3.1-2b", "liger"))
    assert "leaves the loss" in ran.out


def test_a_saved_adalora_says_two_ranks(llmcalc):
    line = "peft --model gpt2 --method adalora --format json"
    both, one = llmcalc(f"{line} --rank 8 --arg init_r=16"), llmcalc(f"{line} --arg init_r=16")
    assert both.results["trainable_params"] == one.results["trainable_params"]
