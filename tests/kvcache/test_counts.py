"""The cache's bytes: what transformers allocates, what vLLM's blocks hold, what published figures say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.commands.kvcache.report import kvcache
from estimator.config import Config
from estimator.families.base import Attention, Linear
from estimator.formulas import kvcache as f
from estimator.kv.layers import cache_bytes, held_tokens
from estimator.models import Model, load_model

DATA = Path(__file__).resolve().parents[1] / "data" / "kvcache.json"
CASES = json.loads(DATA.read_text())["cases"]
KIB, GIB = 1024, 1024**3


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c[:6])))
def test_as_transformers_allocates(case):
    name, b, s, dtype, cache, encoder, want, latent = case
    got = kvcache(load_model(name), b, s, dtype, cache, encoder).results()
    assert got["kv_cache_bytes"] == want
    assert got.get("latent_bytes") == latent


def llama(**fields):
    sizes = {
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "hidden_size": 512,
        "head_dim": 64,
    }
    return Model(
        "tiny", "file", Config({"model_type": "llama", "intermediate_size": 64, "vocab_size": 10} | sizes | fields)
    )


# transformers 5.23 with optimum-quanto 0.2.7 and hqq 0.2.8: 2 x 100 tokens, then 300 one by one; every tensor's bytes
@pytest.mark.parametrize(("dtype", "want"), [("int4", 147_584), ("int8", 238_720), ("fp8", 204_808)])
def test_quantized_as_transformers_allocates(dtype, want):
    got = kvcache(llama(), 2, 100, dtype, "quantized", new_tokens=300).results()
    assert got["kv_cache_bytes"] == want


def test_quantized_scratch():
    """Unpacked keys and values of 356 tokens, and 400 concatenated, of two sequences and two heads, in 16 bits."""
    got = kvcache(llama(), 2, 100, "int4", "quantized", new_tokens=300).results()
    assert got["scratch_bytes"] == 2 * 2 * (64 + 64) * 2 * (356 + 400)


def test_scales_by_group():
    model = llama(num_hidden_layers=3)
    bare = kvcache(model, 2, 100, "int8").results()["kv_cache_bytes"]
    assert bare == 3 * 2 * 100 * 2 * 128
    assert kvcache(model, 2, 100, "int8", kv_group=64).results()["kv_cache_bytes"] == bare + bare // 64 * 2


def attention(window=None):
    q = Linear("q", 8, 8)
    return Attention((q,), q, 1, 1, 8, window=window)


@given(st.integers(1, 400), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 200)))
@settings(max_examples=200, deadline=None)
def test_blocks(s, block, window):
    """Blocks counted one by one: those that hold a token which the next query still sees."""
    first = 0 if window is None else max(0, s - window + 1)
    touched = {t // block for t in range(first, s)} or {(s - 1) // block + 1}
    want = len(touched) * block
    got = held_tokens(attention(window), s, "paged", block)
    assert got == want or (window == 1 and got == (want if (s % block) else 0))


def test_shared_prefix():
    model = llama()
    per_token = 2 * 64 * 2 * 2
    got = kvcache(model, 8, 1000, cache="paged", block_size=16, shared_prefix=100).results()
    assert got["kv_cache_bytes"] == (96 + 8 * (1008 - 96)) * per_token
    assert got["shared_saving_bytes"] == 7 * 96 * per_token
    bare = kvcache(model, 8, 1000, shared_prefix=100).results()
    assert bare["kv_cache_bytes"] == (100 + 8 * 900) * per_token


def test_shared_prefix_that_left_the_window():
    """A window of 512 at 8,192 tokens has left a prefix of 1,000 behind: nothing of it is there to share."""
    model = load_model("mistral-7b-v0.1", ["sliding_window=512"])
    alone, shared = (kvcache(model, 4, 8192, shared_prefix=x).results()["kv_cache_bytes"] for x in (None, 1000))
    assert alone == shared


def test_layers_that_share():
    """The last layers of Gemma 3n and its kind keep no keys and values of their own."""
    whole, part = (
        cache_bytes(load_model("llama-3-8b", x).architecture, 1, 100) for x in ([], ["num_kv_shared_layers=12"])
    )
    assert part * 32 == whole * 20


def test_rows_are_merged(llmcalc):
    out = llmcalc("kvcache --model jamba-v0.1").out
    assert "28 Mamba state layers" in out
    out = llmcalc("kvcache --model deepseek-v2-lite").out
    assert "27 latent-attention layers" in out
    out = llmcalc("kvcache --model llama-3-8b --set num_hidden_layers=1").out
    assert "1 grouped-query layer " in out


def test_latent_beside_expanded():
    """DeepSeek-V3 stores 576 numbers a token and layer where its heads would keep 128 * (192 + 128)."""
    got = kvcache(load_model("deepseek-v3"), 1, 1).results()
    assert got["latent_bytes"] == 61 * 576 * 2
    assert got["expanded_bytes"] == 61 * 128 * (192 + 128) * 2


def per_token(name, dtype="bf16", *fields):
    return kvcache(load_model(name, fields), 1, 4096, dtype).results()["bytes_per_token"]


def test_published():
    assert per_token("opt-13b") == 800 * KIB  # Kwon et al. 2023, section 3
    assert pytest.approx(1.6, abs=0.05) == 800 * KIB * 2048 / GIB
    assert per_token("qwen2.5-72b") == 327_680  # DeepSeek-AI 2025, arXiv 2505.09343, table 1
    assert per_token("llama-3-70b", "int8") == 160 * KIB  # scaling-book, applied inference
    assert per_token("llama-3-70b", "int8") * 32768 / 1e9 == pytest.approx(5.3, abs=0.08)
    assert kvcache(load_model("llama-3-8b"), 128, 1024).results()["kv_cache_bytes"] / 1e9 == pytest.approx(
        17.2, abs=0.05
    )


# huggingface.co/blog/llama31; its row of the 405B counts 16 key/value heads, twice the model's
@pytest.mark.parametrize(
    ("name", "tokens", "gib", "wrong"),
    [
        ("llama-3.1-8b", 1024, 0.125, 1), ("llama-3.1-8b", 16000, 1.95, 1), ("llama-3.1-70b", 1024, 0.313, 1),
        ("llama-3.1-70b", 16000, 4.88, 1), ("llama-3.1-70b", 128000, 39.06, 1), ("llama-3.1-405b", 1024, 0.984, 2),
        ("llama-3.1-405b", 128000, 123.05, 2),
    ],
)  # fmt: skip
def test_llama_31_table(name, tokens, gib, wrong):
    got = kvcache(load_model(name), 1, tokens).results()["kv_cache_bytes"] / GIB
    assert got * wrong == pytest.approx(gib, abs=0.006)


def test_published_formulas():
    # FlexGen, Sheng et al. 2023, section 3: OPT-175B, 512 sequences of 512 + 32 tokens; printed TB are TiB
    opt = f.kv_cache_bytes(96, 512, 544, 96, 128, 128, 16)
    assert opt / 1024**4 == pytest.approx(1.2, abs=0.05)
    assert opt / (96 * (8 * 12288**2 + 4 * 12288 * 49152)) == pytest.approx(3.8, abs=0.05)
    # Pope et al. 2022, section 2.1: the multi-head variant with heads of 128
    assert f.kv_cache_bytes(118, 512, 2048, 48, 128, 128, 16) / 1e12 == pytest.approx(3, abs=0.1)
    # DeepSeek-V2: 93.3% less than DeepSeek 67B only with the deployed 6-bit cache; 82.2% at equal precision
    mla, gqa = f.mla_cache_bytes(60, 1, 1, 512, 64, 6), f.kv_cache_bytes(95, 1, 1, 8, 128, 128, 16)
    assert 100 * (1 - mla / gqa) == pytest.approx(93.3, abs=0.1)
    assert 100 * (1 - f.mla_cache_bytes(60, 1, 1, 512, 64, 16) / gqa) == pytest.approx(82.2, abs=0.1)
    # kipply 2022: 52B, 64 layers of width 8192
    assert f.kv_cache_bytes(64, 1, 1, 64, 128, 128, 16) == 2_097_152
