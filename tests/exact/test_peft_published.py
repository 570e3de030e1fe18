"""Parameter tables of the papers, inside the precision they are printed with."""

from __future__ import annotations

import pytest

from estimator.config import Config
from estimator.families import build
from estimator.models import load_model
from estimator.peft.asked import build_adapter


def textbook(L, d, heads=16):
    """L layers of q, k, v, o (d x d) and an MLP of 4d: what the tables count on."""
    raw = {"model_type": "symbolic", "num_hidden_layers": L, "hidden_size": d, "num_attention_heads": heads}
    return build(Config(raw)), raw


def trained(L, d, method, rank, targets, **args):
    arch, raw = textbook(L, d)
    return build_adapter(arch, "textbook", raw, method, rank, targets, args).trained


QV, QKVO = ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]
GPT3 = (96, 12288)

# (layers, width, rank, targets, printed, half of the last digit or what truncation explains), LoRA
LORA = [
    (*GPT3, 1, QV, 4.7e6, 0.06e6), (*GPT3, 2, QV, 9.4e6, 0.06e6), (*GPT3, 1, QKVO, 9.4e6, 0.06e6),
    (*GPT3, 4, QV, 18.8e6, 0.2e6), (*GPT3, 2, QKVO, 18.8e6, 0.2e6), (*GPT3, 8, QV, 37.7e6, 0.06e6),
    (*GPT3, 64, QV, 301.9e6, 0.2e6), (*GPT3, 64, QKVO, 603.8e6, 0.2e6), (24, 1024, 8, QV, 0.8e6, 0.05e6),
    (12, 768, 1, QV, 36.8e3, 100), (12, 768, 256, QV, 9437.1e3, 100), (24, 1024, 16, QV, 1572.8e3, 100),
    (*GPT3, 16, QV, 75.5e6, 60e3), (*GPT3, 256, QV, 1207.9e6, 60e3),
    (12, 768, 8, [*QKVO, "up_proj", "down_proj"], 1.33e6, 0.01e6),
]  # fmt: skip
# rows that no counting gives: (..., printed, what the stated rank gives)
NOT_LORA = [
    (48, 1536, 8, QV, 4.7e6, 2_359_296), (24, 1024, 4, QV, 0.35e6, 393_216), (36, 1280, 4, QV, 0.77e6, 737_280),
]  # fmt: skip
VERA = [
    (12, 768, 1024, 43e3, 500), (24, 1024, 256, 61e3, 500), (12, 768, 1, 18.4e3, 100), (12, 768, 16, 18.8e3, 100),
    (12, 768, 256, 24.5e3, 100), (24, 1024, 1, 49.2e3, 100), (24, 1024, 256, 61.4e3, 100),
]  # fmt: skip
NOT_VERA = [(24, 1024, 16, 49.5e3, 49_920), (*GPT3, 16, 2.8e6, 2_362_368), (*GPT3, 256, 8.7e6, 2_408_448)]


@pytest.mark.parametrize(("L", "d", "r", "targets", "printed", "within"), LORA)
def test_lora_tables(L, d, r, targets, printed, within):
    assert abs(trained(L, d, "lora", r, targets) - printed) <= within


@pytest.mark.parametrize(("L", "d", "r", "targets", "printed", "counted"), NOT_LORA)
def test_lora_rows_that_do_not_reproduce(L, d, r, targets, printed, counted):
    assert trained(L, d, "lora", r, targets) == counted
    assert abs(counted - printed) > 0.02 * printed


@pytest.mark.parametrize(("L", "d", "r", "printed", "within"), VERA)
def test_vera_tables(L, d, r, printed, within):
    assert abs(trained(L, d, "vera", r, QV) - printed) <= within


@pytest.mark.parametrize(("L", "d", "r", "printed", "counted"), NOT_VERA)
def test_vera_rows_that_do_not_reproduce(L, d, r, printed, counted):
    assert trained(L, d, "vera", r, QV) == counted != pytest.approx(printed, rel=0.005)


@pytest.mark.parametrize(("r", "printed"), [(1, 7.1e6), (8, 40.1e6)])
def test_houlsby_adapters_on_gpt3(r, printed):
    assert abs(trained(*GPT3, "adapter", r, None, use_bias=True) - printed) <= 0.06e6


@pytest.mark.parametrize(("tokens", "printed"), [(72, 0.9e6), (136, 1.7e6), (264, 3.2e6)])
def test_prefix_embeddings_on_gpt3(tokens, printed):
    """d (l_p + l_i) with l_i = 8: a soft prompt of as many vectors."""
    assert abs(trained(*GPT3, "soft-prompt", None, None, num_virtual_tokens=tokens) - printed) <= 0.1e6


@pytest.mark.parametrize(("tokens", "printed"), [(4, 5.1e6), (8, 10.1e6), (16, 20.2e6), (36, 44.1e6), (64, 76.1e6)])
def test_prefix_layer_rows_are_above_their_own_formula(tokens, printed):
    counted = trained(*GPT3, "prefix_tuning", None, None, num_virtual_tokens=tokens) // 2  # L d (l_p + l_i)
    assert 1.005 < printed / counted < 1.085


def test_prompt_tuning_of_t5_xxl():
    assert trained(24, 4096, "soft-prompt", None, None, num_virtual_tokens=5) == 20_480


def test_ia3_of_t0_3b():
    raw = {"model_type": "t5", "d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32,
           "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}  # fmt: skip
    arch = build(Config(raw))
    adapter = build_adapter(arch, "t0-3b", raw, "ia3", None, ["k", "v", "wo"], {"feedforward_modules": ["wo"]})
    assert adapter.trained == 24 * (2 * 2048 + 5120) + 24 * (4 * 2048 + 5120) == pytest.approx(0.54e6, abs=0.005e6)


@pytest.mark.parametrize(
    ("model", "method", "printed"),
    [
        ("llama-7b", "lora", 0.83), ("llama-7b", "dora", 0.84), ("llama-13b", "lora", 0.67),
        ("llama-13b", "dora", 0.68), ("llama-3-8b", "lora", 0.70), ("llama-3-8b", "dora", 0.71),
    ],
)  # fmt: skip
def test_dora_table(llmcalc, model, method, printed):
    targets = "q_proj,k_proj,v_proj,up_proj,down_proj"
    ran = llmcalc(f"peft --model {model} --method {method} --rank 32 --targets {targets} --format json")
    assert abs(ran.results["trainable_percent"] - printed) <= 0.006


def test_full_training_is_the_whole_model():
    model = load_model("gpt2")
    assert build_adapter(model.architecture, "gpt2", {}, "full").trained == 124_439_808
