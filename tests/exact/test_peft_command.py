"""The peft command: solving for the rank, comparison, derivations, and what it says to input it cannot use."""

from __future__ import annotations

import pytest

from estimator.commands.peft.report import peft
from estimator.models import load_model
from estimator.peft import METHODS


def test_the_first_example(llmcalc):
    ran = llmcalc("peft --method lora --rank 8 --format json")
    r = ran.results
    assert r["trainable_params"] == 32 * 8 * (4096 + 4096 + 4096 + 1024) == 3_407_872
    assert r["frozen_extra_params"] == 0
    assert r["rank"] == 8
    assert r["added_bytes"] == r["gradients_bytes"] == 4 * 3_407_872
    assert r["checkpoint_bytes"] == 4 * 3_407_872 + 16_944  # the file's header names 128 tensors
    assert r["optimizer_bytes"] == 8 * 3_407_872
    assert r["trainable_percent"] == pytest.approx(100 * 3_407_872 / (8_030_261_248 + 3_407_872))
    assert r["extra_flops_per_token"] == 2 * 3_407_872
    assert any("fp32" in a for a in ran.json["assumptions"])


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_dtype(llmcalc, dtype):
    r = llmcalc(f"peft --rank 8 --dtype {dtype} --format json").results
    assert r["added_bytes"] * 2 == 4 * r["trainable_params"]
    assert r["optimizer_bytes"] == 4 * r["trainable_params"]


@pytest.mark.parametrize(
    ("option", "of"),
    [
        ("--reduction 1000", lambda r: r["trainable_params"] * 1000 <= r["base_params"]),
        ("--budget 100MB", lambda r: r["trained_bytes"] <= 100_000_000),
        ("--budget 100MiB", lambda r: r["trained_bytes"] <= 100 * 2**20),
        ("--trainable 0.5%", lambda r: r["trainable_percent"] <= 0.5),
    ],
)
@pytest.mark.parametrize("method", ["lora", "dora", "vera", "loha", "adalora", "lokr"])
def test_solving_for_the_rank(llmcalc, method, option, of):
    ran = llmcalc(f"peft --method {method} {option} --format json")
    if ran.code:
        assert method == "lokr"  # its factors stop growing with the rank
        assert "does not bound the rank" in ran.err
        return
    assert of(ran.results)
    above = llmcalc(f"peft --method {method} --rank {ran.results['rank'] + 1} --format json")
    assert not of(above.results)


def test_the_rank_has_a_derivation(llmcalc):
    ran = llmcalc("peft --reduction 1000 --derive --format json")
    by_key = {d["key"]: d for d in ran.json["derivations"]}
    assert by_key["rank"]["value"] == ran.results["rank"] == 18
    assert "floor" in by_key["rank"]["expression"]


def test_all_methods_side_by_side(llmcalc):
    ran = llmcalc("peft --method all --rank 8 --format json")
    names = {k.split(".")[0] for k in ran.results if k.endswith(".trainable_params")}
    assert names == set(METHODS) - {"trainable_tokens", "cpt", "xlora"}
    assert ran.results["lora.trainable_params"] == 3_407_872
    trained = [row[3] for row in ran.json["tables"][0]["rows"]]
    assert trained == sorted(trained)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_derives(llmcalc, method):
    """The expression of every number equals the number (the renderer checks it), for every method."""
    extra = {"trainable_tokens": "--arg token_indices=[1,2]", "freeze": "--trainable-layers 2"}.get(method, "")
    ran = llmcalc(f"peft --model llama-3.2-1b --method {method} {extra} --derive --format json")
    assert ran.code == 0, ran.err
    plain = llmcalc(f"peft --model llama-3.2-1b --method {method} {extra} --format json")
    assert ran.results == plain.results


WRONG = [
    ("--rank 0", "--rank must be >= 1"),
    ("--rank x", "letters need --model symbolic"),
    ("--targets foo", "q_proj, k_proj, v_proj, o_proj"),
    ("--targets q_prj", "Did you mean 'q_proj'"),
    ("--targets self_attn", "a container of modules"),
    ("--targets input_layernorm", "a normalisation"),
    ("--targets (a+", "no regular expression"),
    ("--method lorra", "Did you mean 'lora'"),
    ("--method adaption_prompt --model qwen3-0.6b", "llama, mistral and gpt2 only"),
    ("--method loha --model gpt2", "Conv1D"),
    ("--method lora --model mixtral-8x7b", "no default targets"),
    ("--method lora --model mixtral-8x7b --targets w1", "without w3"),
    ("--method lora --model mamba-130m --targets out_proj", "Mamba"),
    ("--method vblora --arg vector_length=100", "not a multiple"),
    ("--method boft --rank 4", "has no rank"),
    ("--method boft --reduction 5", "has none"),
    ("--reduction 100000", "no rank reaches it"),
    ("--matrix 120x120 --reduction 100", "no rank reaches it"),
    ("--rank 8 --reduction 15", "contradict"),
    ("--reduction 15 --budget 1GB", "contradict"),
    ("--rank 8 --arg r=16", "different things"),
    ("--arg lora_alph=3", "Did you mean 'lora_alpha'"),
    ("--arg r", "NAME=VALUE"),
    ("--arg use_dora=yes", "true or false"),
    ("--arg lora_bias=true --method dora", "DoRA"),
    ("--dtype nf4", "plain type"),
    ("--optimizer foo", "Known"),
    ("--matrix 12", "like 4096x1024"),
    ("--method freeze --trainable-layers 99", "32 layers"),
    ("--trainable-layers 2", "for --method freeze"),
    ("--trainable 200", "below 100%"),
    ("--reduction abc", "not a number"),
    ("--model symbolic --reduction 3", "need numbers"),
    ("--method prefix_tuning --arg num_virtual_tokens=0", "must be"),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_bad_input_is_one_line(llmcalc, options, says):
    ran = llmcalc("peft", *options.split())
    assert ran.code == 2, ran.out
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert says in ran.err


def test_a_rank_above_the_matrix_is_said(llmcalc):
    ran = llmcalc("peft --rank 2000 --format json")
    assert ran.code == 0
    assert "above the smaller side" in ran.err


def test_arguments_without_effect_on_counts_are_accepted(llmcalc):
    ran = llmcalc(
        "peft --rank 8 --arg lora_alpha=32 --arg lora_dropout=0.1 --arg init_lora_weights=gaussian --format json"
    )
    assert ran.results["trainable_params"] == 3_407_872


def test_the_python_api():
    report = peft(load_model("gpt2"), "lora", rank=4, targets=["c_attn"])
    assert report.results()["trainable_params"] == 12 * 4 * (768 + 3 * 768)
