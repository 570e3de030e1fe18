"""What each layer of a model holds: keys and values, latents, recurrent states, cross-attention.

A :class:`Store` says how: a cache's kind, bits, groups, blocks, and the tokens that a batch shares. Bytes are exact.
Sources: transformers 5.23 cache_utils.py; vLLM v1/core (paged blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import lcm
from typing import Any

from estimator.dtypes import Format, find_format
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Layer, NoMixer, Pooling, StateSpace
from estimator.formula import Formula
from estimator.formulas.kvcache import (
    grouped_bytes,
    kv_cache_bytes,
    mla_cache_bytes,
    paged_tokens,
    paged_window_tokens,
    pooled_cache_bytes,
    quantized_cache_bytes,
    state_bytes,
)
from estimator.ops import ceil_div, maximum, minimum
from estimator.records import dataclass
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE

CACHES = ("dynamic", "static", "paged", "quantized")
KV_FORMATS = ("bf16", "fp16", "fp32", "fp8", "int8", "int4")
GGML = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl")  # of llama.cpp's caches: --cache-type-k
BF16_BITS = 16  # what is computed with, and what scales are kept in
FP32_BYTES = 4
BLOCK = 16  # tokens a block: vLLM's default
GROUP = 64  # transformers' q_group_size
RESIDUAL = 128  # transformers' residual_length


def kv_format(name: str) -> Format:
    """The format of ``--kv-dtype``; InputError where no cache is stored in it."""
    found = find_format(name, "--kv-dtype")
    if found.name not in KV_FORMATS:
        own = "; with --engine llama.cpp also f16, q8_0, q4_0 ..." if name.lower() in GGML else ""
        raise InputError(f"--kv-dtype {name}: KV caches are not stored as {name}. Use {', '.join(KV_FORMATS)}{own}")
    return found


@dataclass(frozen=True, slots=True)
class Store:
    """How a cache is kept.

    cache      one of CACHES; bits of a number; block: tokens a block of a paged cache
    group      numbers that share a 16-bit scale, or None for codes alone (quantized: always, 64 by default)
    shared     tokens of a prefix that all sequences share; new: tokens after the prompt (decides a residual)
    """

    cache: str = "dynamic"
    bits: Any = 16
    block: Any = BLOCK
    group: Any = None
    shared: Any = 0
    new: Any = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What one group of layers holds.

    kind, layers   what it is, how many layers: together the label
    bytes, formula        its bytes and the formula that gave them; latent: an MLA latent
    scratch               bytes that one layer's attention needs to read it: what it is unpacked into
    """

    kind: str
    bytes: Any
    formula: Formula
    layers: Any = 1
    latent: bool = False
    scratch: Any = 0

    @property
    def label(self) -> str:
        """``22 sliding-window layers (512 tokens)``; ``1 latent-attention layer``."""
        return self.named(f"{value_of(self.layers):,}")

    def named(self, count: str) -> str:
        """The label with the number of layers as it is given: a letter for a symbolic model."""
        name, _, detail = self.kind.partition(" (")
        text = f"{count} {name} layer" + ("" if self.layers == 1 else "s")
        return f"{text} ({detail}" if detail else text


def held_tokens(attention: Attention, tokens: Any, cache: str, block: Any = BLOCK) -> Any:
    """Tokens that a layer's cache has room for: window - 1 after a forward pass (dynamic), the window (static), whole
    blocks (paged), all (no window; transformers' quantised cache knows none).

    Source: transformers cache_utils.py, DynamicSlidingWindowLayer, StaticSlidingWindowLayer and QuantizedCache.
    """
    window = attention.cache_window
    if cache == "paged":
        if window is None or tokens < window:
            return paged_tokens(tokens, block)
        return paged_window_tokens(tokens, window, block)
    if window is None or cache == "quantized":
        return tokens
    return minimum(tokens, window - 1 if cache == "dynamic" else window)


def batch_tokens(attention: Attention, b: Any, s: Any, store: Store) -> Any:
    """Tokens that a layer holds for the whole batch: a shared prefix once, in whole blocks where the cache has any."""
    held = held_tokens(attention, s, store.cache, store.block)
    if store.shared == 0:
        return b * held
    shared = store.shared // store.block * store.block if store.cache == "paged" else store.shared
    first = s - held if attention.cache_window is not None and held < s else 0  # tokens before it have left the window
    kept = maximum(0, shared - first)
    return kept + b * (held - kept)


def attention_kind(a: Attention, crossed: bool) -> str:
    """What kind of attention it is, as a label says it."""
    if a.mla is not None:
        return "latent-attention"
    if a.chunk is not None and a.window_cached:
        return f"chunked ({int(value_of(a.chunk)):,} tokens)"
    if a.cache_window is not None:
        return f"sliding-window ({int(value_of(a.cache_window)):,} tokens)"
    if crossed:
        return "self-attention"
    heads, kv = int(value_of(a.heads)), int(value_of(a.kv_heads if a.cached_heads is None else a.cached_heads))
    return "attention" if heads == kv else "multi-query" if kv == 1 else "grouped-query"


STATES = {  # what people call a StateSpace.kind, where that is not its name
    "selective": "Mamba",
    "chunked": "Mamba 2",
    "gated_delta": "gated delta-rule",
    "short_conv": "convolution",
    "lightning": "linear-attention",
    "channel_delta": "Kimi delta-rule",
    "time_mix": "RWKV",
    "rg_lru": "linear-recurrence",
}


def layer_cache(layer: Layer, b: Any, s: Any, s_enc: Any, store: Store, times: Any) -> Iterator[Held]:
    """The caches of ``times`` layers of one group, self-attention first."""
    mixer, count = layer.mixer, times
    if layer.second is not None:
        yield _states(layer.second, b, store, times)
    if isinstance(mixer, NoMixer):
        return
    if isinstance(mixer, StateSpace):
        yield _states(mixer, b, store, times)
        if layer.ahead is None:
            return
        mixer = layer.ahead.attention
    tokens = batch_tokens(mixer, b, s, store)
    kind = attention_kind(mixer, layer.cross is not None)
    if mixer.indexer is not None:
        keys = mixer.indexer.cached
        made = kv_cache_bytes(times, 1, tokens, 1, keys, 0, store.bits)
        if store.group is None and store.cache != "quantized":
            yield Held("indexer", made, kv_cache_bytes, count)
        else:
            yield _packed("indexer", times, tokens, keys, store, b)
    if mixer.mla is not None:
        width = mixer.mla["kv_rank"] + mixer.mla["rope"]
        if store.group is None and store.cache != "quantized":
            made = mla_cache_bytes(times, 1, tokens, mixer.mla["kv_rank"], mixer.mla["rope"], store.bits)
            yield Held(kind, made, mla_cache_bytes, count, latent=True)
        else:
            yield replace(_packed(kind, times, tokens, width, store, b), latent=True)
        return
    if mixer.pool is not None:
        yield from _pooled(mixer.pool, times, b, s, store)
    heads = mixer.kv_heads if mixer.cached_heads is None else mixer.cached_heads
    yield _pair(kind, times, tokens, heads, mixer, store, b)
    if layer.cross is not None:
        c = layer.cross
        yield _pair("cross-attention", times, b * s_enc, c.kv_heads, c, replace(store, new=0), b)


def _pooled(pool: Pooling, times: Any, b: Any, s: Any, store: Store) -> Iterator[Held]:
    """Pooled keys of a group of layers, and those that an indexer reads; they are never packed."""
    bits = store.bits if value_of(store.bits) >= BF16_BITS else BF16_BITS
    for kind, p in (("pooled", pool), *([("indexer", pool.chooser.pool)] if pool.chooser else [])):
        made = pooled_cache_bytes(times, b, s, p.ratio, p.width, int(p.overlap), bits)
        yield Held(f"{kind} ({p.ratio} tokens a key)", made, pooled_cache_bytes, times)


def _states(mixer: StateSpace, b: Any, store: Store, times: Any) -> Held:
    """The convolution's last inputs and the recurrent state of a group of layers."""
    conv = mixer.conv_width * mixer.sizes.get("kept", mixer.conv_kernel)
    state = mixer.sizes["heads"] * mixer.sizes["head_dim"] * mixer.state
    bits = store.bits if value_of(store.bits) >= BF16_BITS else BF16_BITS  # states are never packed
    name = STATES.get(mixer.kind, mixer.kind)
    return Held(f"{name} state", state_bytes(times, b, conv, state, bits), state_bytes, times)


def _pair(kind: str, times: Any, tokens: Any, heads: Any, a: Attention, store: Store, b: Any) -> Held:
    """Keys and values of a group of layers."""
    d_v = 0 if a.joint else a.head_dim if a.v_head_dim is None else a.v_head_dim
    if store.group is None and store.cache != "quantized":
        made = kv_cache_bytes(times, 1, tokens, heads, a.head_dim, d_v, store.bits)
        return Held(kind, made, kv_cache_bytes, times)
    return _packed(kind, times, tokens, heads * (a.head_dim + d_v), store, b)


def _packed(kind: str, times: Any, tokens: Any, width: Any, store: Store, b: Any) -> Held:
    """A quantised cache of ``width`` numbers a token: codes, scales, a residual in 16 bits, and its scratch."""
    count = times
    if store.cache != "quantized":
        made = times * grouped_bytes(tokens * width, store.bits, store.group, BF16_BITS)
        return Held(kind, made, grouped_bytes, count)
    group = GROUP if store.group is None else store.group
    residual = b * (store.new - store.new // RESIDUAL * RESIDUAL if store.new >= RESIDUAL else store.new)
    if value_of(store.bits) == 8 and store.group is None:  # Fp8QuantizedLayer: no residual, a scale a tensor
        made = times * (tokens * width + 2 * FP32_BYTES)
        unpacked = ceil_div(tokens * width * BF16_BITS, BITS_PER_BYTE)
        return Held(kind, made, quantized_cache_bytes, count, scratch=unpacked)
    packed = tokens - residual
    made = times * quantized_cache_bytes(packed * width, residual * width, store.bits, group, BF16_BITS)
    # update(): everything unpacked, and once more concatenated with the residual and the new token
    unpacked = ceil_div((packed + tokens) * width * BF16_BITS, BITS_PER_BYTE)
    return Held(kind, made, quantized_cache_bytes, count, scratch=unpacked)


def owners(arch: Architecture) -> list[tuple[Layer, Any]]:
    """Decoder layers with how many of each group keep a cache of their own: the last ``kv_shared_layers`` reuse one."""
    shared = int(arch.facts.get("kv_shared_layers", 0))
    out = []
    start = 0
    for layer in arch.layers:
        if layer.side != "decoder" or (isinstance(layer.mixer, Attention) and layer.mixer.reuses):
            continue
        times: Any = layer.times
        if shared:
            first = int(value_of(arch.num_layers)) - shared
            at = layer.indices if layer.indices is not None else range(start, start + int(value_of(layer.times)))
            times = sum(1 for i in at if i < first)
        start += int(value_of(layer.times))
        if not shared or times:
            out.append((layer, times))
    return out


def cache_parts(
    arch: Architecture, b: Any, s: Any, s_enc: Any, bits: Any, cache: str = "dynamic", store: Store | None = None
) -> list[Held]:
    """The caches of every layer that generation keeps; encoder layers keep none. ``store`` overrides bits and cache."""
    if arch.kind == "encoder":
        return []
    how = store if store is not None else Store(cache, bits)
    return [h for layer, times in owners(arch) for h in layer_cache(layer, b, s, s_enc, how, times)]


def merged(parts: list[Held]) -> list[Held]:
    """Groups of one kind as one row."""
    out: dict[str, Held] = {}
    for h in parts:
        old = out.get(h.kind)
        if old is None:
            out[h.kind] = h
        else:
            scratch = maximum(old.scratch, h.scratch)
            out[h.kind] = replace(old, bytes=old.bytes + h.bytes, layers=old.layers + h.layers, scratch=scratch)
    return list(out.values())


def cache_bytes(arch: Architecture, b: Any, s: Any, s_enc: Any = 0, bits: Any = 16, cache: str = "dynamic") -> Any:
    """Total bytes of the cache."""
    return sum(h.bytes for h in cache_parts(arch, b, s, s_enc, bits, cache))


def span(arch: Architecture, block: int = 1) -> int:
    """Tokens of which a cache of so many more is never smaller; of fewer more it may be.

    Tokens that fill no window of a pool wait as they are, and a window that moves on may touch a paged ``block`` less.
    """
    spans = [1]
    for layer, _ in owners(arch):
        a = layer.mixer
        if isinstance(a, Attention) and a.pool is not None:
            spans += [p.ratio for p in (a.pool, *([a.pool.chooser.pool] if a.pool.chooser else []))]
        if isinstance(a, Attention) and a.window is not None:
            spans.append(block)
    return lcm(*spans)


def ripple(arch: Architecture, held: Callable[[int], int], block: int = 1) -> tuple[int, int]:
    """(tokens, bytes): a cache of that many more tokens is never smaller, and of fewer more never by so many bytes.

    ``held``: bytes of so many tokens; the second number is twice what fewer than ``tokens`` can come to.
    """
    tokens = span(arch, block)
    return tokens, 0 if tokens == 1 else 2 * held(tokens - 1)
