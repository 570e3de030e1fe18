"""What each layer holds, written out: windows, blocks, prefixes, codes with scales and residuals, shared caches."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from estimator.config import Config
from estimator.families import build
from estimator.formulas.kvcache import kv_cache_bytes, paged_window_tokens, quantized_cache_bytes
from estimator.kv.layers import (
    Held,
    Store,
    batch_tokens,
    cache_bytes,
    cache_parts,
    held_tokens,
    layer_cache,
    merged,
    owners,
    ripple,
)
from estimator.models import load_model


def llama(**more):
    raw = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
           "vocab_size": 100, "intermediate_size": 128, "max_position_embeddings": 1000}  # fmt: skip
    return build(Config(raw | more))


STORE = Store(cache="paged", bits=16, block=16)


def attention(**more):
    return llama(num_key_value_heads=2, **more).layers[0].mixer


def test_tokens_that_a_cache_has_room_for():
    plain = attention()
    window = load_model("mistral-7b").architecture.layers[0].mixer
    assert (plain.cache_window, window.cache_window) == (None, 4096)
    for cache, full, short, long in (
        ("dynamic", 5000, 100, 4095), ("static", 5000, 100, 4096), ("quantized", 5000, 100, 5000),
    ):  # fmt: skip
        assert [held_tokens(a, n, cache) for a, n in ((plain, 5000), (window, 100), (window, 5000))] == [
            full, short, long
        ]  # fmt: skip
    assert [held_tokens(plain, n, "paged") for n in (1, 16, 17)] == [16, 16, 32]
    assert held_tokens(plain, 17, "paged", 8) == 24
    assert held_tokens(window, 4095, "paged") == 4096
    assert [held_tokens(window, n, "paged") for n in (4096, 5000)] == [
        paged_window_tokens(n, 4096, 16) for n in (4096, 5000)
    ]  # fmt: skip


def test_a_shared_prefix_is_held_once():
    plain, window = attention(), load_model("mistral-7b").architecture.layers[0].mixer
    assert batch_tokens(plain, 3, 100, Store()) == 300
    assert batch_tokens(plain, 3, 100, Store(shared=1)) == 298
    assert batch_tokens(plain, 3, 100, Store(shared=40)) == 40 + 3 * 60
    assert batch_tokens(plain, 3, 100, replace(STORE, shared=40)) == 32 + 3 * (112 - 32)
    assert batch_tokens(window, 3, 100, replace(STORE, shared=40)) == 32 + 3 * 80
    assert batch_tokens(window, 3, 5000, Store(shared=1000)) == 95 + 3 * 4000  # 905 tokens have left the window
    assert batch_tokens(window, 3, 5000, Store(shared=900)) == 3 * 4095
    assert batch_tokens(window, 3, 4095, Store(shared=1000)) == 1000 + 3 * 3095


def test_bytes_of_a_packed_cache():
    """Codes, a 16-bit scale a group, a residual in 16 bits; what is unpacked to read it."""
    heads, width = 2, 2 * 2 * 16  # of keys and values together
    arch = llama(num_key_value_heads=heads)

    def one(store, b=3, s=1000):
        return cache_parts(arch, b, s, 0, 16, store=store)[0]

    assert one(Store()).bytes == 2 * 3 * 1000 * width * 2
    assert one(Store(bits=8)).bytes == 2 * 3 * 1000 * width
    assert one(Store(bits=4, group=32)).bytes == 2 * (3 * 1000 * width // 2 + 3 * 1000 * width // 32 * 2)
    assert one(Store(bits=4, group=32)).scratch == one(Store()).scratch == 0
    whole = 3 * 1000 * width
    kept = one(Store(cache="quantized", bits=4))
    assert kept.bytes == 2 * quantized_cache_bytes(whole, 0, 4, 64, 16)
    assert kept.scratch == 2 * whole * 2
    kept = one(Store(cache="quantized", bits=4, group=32, new=100))
    rest = 3 * 100 * width
    assert kept.bytes == 2 * quantized_cache_bytes(whole - rest, rest, 4, 32, 16)
    assert kept.scratch == (whole - rest + whole) * 2
    for new, left in ((127, 127), (128, 0), (129, 1), (300, 44)):
        rest = 3 * left * width
        assert one(Store(cache="quantized", bits=2, new=new)).bytes == 2 * quantized_cache_bytes(
            whole - rest, rest, 2, 64, 16
        )
    fp8 = one(Store(cache="quantized", bits=8, new=100))
    assert (fp8.bytes, fp8.scratch) == (2 * (whole + 2 * 4), whole * 2)
    grouped = one(Store(cache="quantized", bits=8, group=64))
    assert grouped.bytes == 2 * quantized_cache_bytes(whole, 0, 8, 64, 16)


def test_latents_and_cross_attention_are_packed_alike():
    arch = load_model("deepseek-v2-lite").architecture
    width, layers = 512 + 64, 27
    whole = 2 * 100 * width
    assert cache_bytes(arch, 2, 100) == layers * whole * 2
    parts = merged(cache_parts(arch, 2, 100, 0, 16, store=Store(cache="quantized", bits=4)))
    assert [(h.bytes, h.latent, h.layers) for h in parts] == [
        (layers * quantized_cache_bytes(whole, 0, 4, 64, 16), True, layers)
    ]  # fmt: skip
    both = cache_parts(load_model("t5-small").architecture, 2, 50, 30, 16, store=Store("quantized", 4, new=10))
    one = 2 * 8 * 64
    assert [h.bytes for h in both] == [
        6 * quantized_cache_bytes(2 * 40 * one, 2 * 10 * one, 4, 64, 16),
        6 * quantized_cache_bytes(2 * 30 * one, 0, 4, 64, 16),
    ]  # fmt: skip


def test_keys_of_an_indexer():
    """One head of keys, no values, beside what they choose from; packed as that is."""
    layer = load_model("deepseek-v2-lite").architecture.layers[0]
    chosen = layer._replace(mixer=layer.mixer._replace(indexer=SimpleNamespace(cached=128)))
    first, rest = layer_cache(chosen, 3, 50, 0, Store(), 5)
    assert (first.kind, first.bytes, first.layers, first.latent) == ("indexer", 5 * 150 * 128 * 2, 5, False)
    assert [rest] == list(layer_cache(layer, 3, 50, 0, Store(), 5))
    packed = next(layer_cache(chosen, 3, 50, 0, Store("quantized", 4, new=10), 5))
    assert packed.bytes == 5 * quantized_cache_bytes(120 * 128, 30 * 128, 4, 64, 16)
    grouped = next(layer_cache(chosen, 3, 50, 0, Store(bits=8, group=32), 5))
    assert grouped.bytes == 5 * (150 * 128 + 150 * 128 // 32 * 2)


def test_layers_that_keep_a_cache_of_their_own():
    arch = load_model("gemma-3-270m").architecture
    assert [n for _, n in owners(arch)] == [15, 3]
    for shared, want in ((1, [15, 2]), (3, [13, 2]), (12, [5, 1]), (18, [])):
        sharing = arch._replace(facts={**arch.facts, "kv_shared_layers": shared})
        assert [n for _, n in owners(sharing)] == want
    two = llama().layers[0]
    plain = llama(num_hidden_layers=5)._replace(
        layers=(two._replace(times=2), two._replace(times=3)), facts={**llama().facts, "kv_shared_layers": 2}
    )  # fmt: skip
    assert [n for _, n in owners(plain)] == [2, 1]
    t5 = load_model("t5-small").architecture
    assert [layer.side for layer, _ in owners(t5)] == ["decoder"]
    assert cache_parts(load_model("bert-base-uncased-encoder").architecture, 1, 8, 0, 16) == []
    assert cache_bytes(t5, 2, 10, 7) == 6 * 2 * 10 * 2 * 8 * 64 * 2 + 6 * 2 * 7 * 2 * 8 * 64 * 2
    assert cache_bytes(llama(), 2, 10) == 2 * 2 * 10 * 2 * 64 * 2


def test_names_of_attention():
    for name, want in (("gpt2", "attention"), ("falcon-7b", "multi-query"), ("llama-3-8b", "grouped-query")):
        assert [h.kind for h in cache_parts(load_model(name).architecture, 1, 8, 0, 16)] == [want]
    two = llama(num_key_value_heads=2)
    assert cache_parts(two, 1, 8, 0, 16)[0].kind == "grouped-query"


def test_parts_of_a_kind_are_one_row():
    a, b, c = (Held(kind, n, kv_cache_bytes, n, scratch=n) for kind, n in (("x", 3), ("y", 5), ("x", 4)))
    assert merged([a, b, c]) == [Held("x", 7, kv_cache_bytes, 7, scratch=4), b]
    assert [h.label for h in (Held("x", 0, kv_cache_bytes), Held("x (8 tokens)", 0, kv_cache_bytes, 1200))] == [
        "1 x layer", "1,200 x layers (8 tokens)"
    ]  # fmt: skip


def test_ripple():
    """Windows of pools of 4 and 128 tokens; blocks where a window moves on; twice what a token less than that holds."""
    deepseek, gpt_oss, llama = (
        load_model(n).architecture for n in ("deepseek-v4-flash", "gpt-oss-20b", "llama-3-8b")
    )
    assert ripple(deepseek, lambda tokens: 10 * tokens) == (128, 2 * 1270)
    assert ripple(deepseek, lambda tokens: tokens, 48) == (384, 2 * 383)
    assert ripple(gpt_oss, lambda tokens: 10 * tokens, 16) == (16, 2 * 150)
    assert ripple(gpt_oss, lambda tokens: tokens + 1) == ripple(llama, lambda tokens: tokens + 1, 16) == (1, 0)


def test_a_cache_without_an_encoder_s_tokens():
    arch = load_model("flan-t5-base").architecture
    assert cache_bytes(arch, 1, 10) == 12 * 2 * 10 * 768 * 2
    assert cache_bytes(arch, 1, 10, 7) == 12 * 2 * (10 + 7) * 768 * 2
