"""FLOPs by the conventions of others, each equal to the figure of its own function."""

from __future__ import annotations

import pytest

GPT2, XL, L2 = ("gpt2", 1024), ("gpt2-xl", 1024), ("llama-2-7b", 4096)
L3, MX = ("llama-3-8b", 8192), ("mixtral-8x7b", 4096)
CASES = [  # model and tokens, key, FLOPs: the function of the project named, run on the model's sizes
    (GPT2, "nanogpt", 875_690_459_136),
    (GPT2, "torchtitan", 880_522_297_344),
    (GPT2, "palm", 880_522_297_344),
    (GPT2, "trainer", 522_584_064_000),
    (XL, "trainer", 9_065_850_470_400),
    (XL, "torchtitan", 10_536_330_854_400),
    (L2, "palm", 191_991_581_245_440),
    (L2, "torchtitan", 188_770_355_773_440),
    (L2, "trainer", 162_382_076_706_816),
    (L3, "palm", 500_256_517_128_192),
    (L3, "trainer", 368_882_057_478_144),
    (L3, "torchtitan", 474_435_173_744_640),
    (MX, "palm", 342_925_321_961_472),
    (MX, "trainer", 313_315_817_422_848),
    (MX, "torchtitan", 339_704_096_489_472),
]


@pytest.mark.parametrize(("model", "key", "flops"), CASES, ids=lambda x: str(x))
def test_as_its_own_function_counts(llmcalc, model, key, flops):
    name, tokens = model
    ran = llmcalc(f"flops {name} --mode training -s {tokens} --attention eager --format json")
    assert ran.results[f"rule.{key}_flops"] == flops


def test_a_rule_that_does_not_describe_a_model_is_not_printed(llmcalc):
    found = llmcalc("flops llama-3-8b --mode training --format json").results
    assert "rule.megatron_flops" not in found  # grouped queries, a gated MLP
    assert "rule.nanogpt_flops" not in found  # no table of positions
    assert "rule.megatron_flops" in llmcalc("flops gpt2 --mode training --format json").results
