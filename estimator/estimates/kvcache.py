"""Bytes of the cache that generation keeps: keys and values, MLA latents, recurrent states, cross-attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from estimator.dtypes import find_format
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Layer, StateSpace
from estimator.formula import Formula
from estimator.formulas.kvcache import kv_cache_bytes, mla_cache_bytes, state_bytes
from estimator.models import Model
from estimator.ops import minimum
from estimator.report import Node, Report
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, TOKENS

CACHES = ("dynamic", "static")
KV_FORMATS = ("bf16", "fp16", "fp32", "fp8", "int8", "int4")
DEFAULT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Held:
    """What one group of layers holds: a label, its bytes, and the formula that gave them."""

    label: str
    bytes: Any
    formula: Formula
    latent: bool = False


def held_tokens(attention: Attention, tokens: Any, cache: str) -> Any:
    """Tokens that a layer's cache holds: window - 1 after a forward pass (dynamic), the window (static), else all.

    Source: transformers cache_utils.py, DynamicSlidingWindowLayer and StaticSlidingWindowLayer.
    """
    window = attention.cache_window
    if window is None:
        return tokens
    return minimum(tokens, window - 1 if cache == "dynamic" else window)


def layer_cache(layer: Layer, b: Any, s: Any, s_enc: Any, bits: int, cache: str) -> Iterator[Held]:
    """The caches of one group of layers, self-attention first."""
    mixer = layer.mixer
    if isinstance(mixer, StateSpace):
        conv = mixer.conv_width * mixer.conv_kernel
        yield Held(
            f"{layer_count(layer)} state-space layers",
            state_bytes(layer.times, b, conv, mixer.sizes["heads"] * mixer.sizes["head_dim"] * mixer.state, bits),
            state_bytes,
        )
        return
    tokens = held_tokens(mixer, s, cache)
    kind = (
        "sliding-window"
        if mixer.cache_window is not None
        else "self-attention"
        if layer.cross
        else "attention"
    )
    if mixer.mla:
        made = mla_cache_bytes(layer.times, b, tokens, mixer.mla["kv_rank"], mixer.mla["rope"], bits)
        yield Held(f"{layer_count(layer)} latent-attention layers", made, mla_cache_bytes, latent=True)
        return
    heads = mixer.kv_heads if mixer.cached_heads is None else mixer.cached_heads
    d_v = mixer.head_dim if mixer.v_head_dim is None else mixer.v_head_dim
    yield Held(
        f"{layer_count(layer)} {kind} layers",
        kv_cache_bytes(layer.times, b, tokens, heads, mixer.head_dim, d_v, bits),
        kv_cache_bytes,
    )
    if layer.cross:
        c = layer.cross
        d_v = c.head_dim if c.v_head_dim is None else c.v_head_dim
        yield Held(
            f"{layer_count(layer)} cross-attention layers",
            kv_cache_bytes(layer.times, b, s_enc, c.kv_heads, c.head_dim, d_v, bits),
            kv_cache_bytes,
        )


def layer_count(layer: Layer) -> int:
    """How many layers a group has, for its label."""
    return int(value_of(layer.times))


def cache_parts(
    arch: Architecture, b: Any, s: Any, s_enc: Any, bits: int, cache: str = "dynamic"
) -> list[Held]:
    """The caches of every layer that generation keeps; encoder layers keep none."""
    if arch.kind == "encoder":
        return []
    return [
        h
        for layer in arch.layers
        if layer.side == "decoder"
        for h in layer_cache(layer, b, s, s_enc, bits, cache)
    ]


def cache_bytes(
    arch: Architecture, b: Any, s: Any, s_enc: Any = 0, bits: int = 16, cache: str = "dynamic"
) -> Any:
    """Total bytes of the cache."""
    return sum(h.bytes for h in cache_parts(arch, b, s, s_enc, bits, cache))


def kvcache(
    model: Model,
    batch_size: Any = 1,
    seq_len: Any = None,
    kv_dtype: str = "bf16",
    cache: str = "dynamic",
    encoder_len: Any = None,
    gpu: str | None = None,
    dtype: str = "bf16",
) -> Report:
    """The KV cache of ``model`` after ``seq_len`` tokens of ``batch_size`` sequences.

    Sizes may be ints or texts (``8k``). Raises InputError for models without a cache and formats no cache is kept in.
    """
    if cache not in CACHES:
        raise InputError(f"--cache must be dynamic or static, got {cache!r}")
    fmt = find_format(kv_dtype, "--kv-dtype")
    if fmt.name not in KV_FORMATS:
        raise InputError(
            f"--kv-dtype {kv_dtype}: KV caches are not stored as {kv_dtype}. Use {', '.join(KV_FORMATS)}"
        )
    arch = model.architecture
    notes = list(model.notes)
    b = size_option(model, batch_size, "--batch-size", "batch_size", "length")
    s = size_option(model, DEFAULT_TOKENS if seq_len is None else seq_len, "--seq-len", "seq_len", "length")
    s_enc = (
        size_option(model, encoder_len, "--encoder-len", "encoder_len", "length")
        if encoder_len is not None
        else s
    )
    assumptions = [f"--seq-len not given: {DEFAULT_TOKENS} tokens"] if seq_len is None else []
    if arch.kind == "encoder":
        raise InputError(f"{model.name}: an encoder keeps no KV cache")
    if arch.max_positions and value_of(s) > arch.max_positions:
        notes.append(
            f"{value_of(s):,} tokens exceed the model's max_position_embeddings of {arch.max_positions:,}"
        )
    bits = fmt.block_bits // fmt.block
    rows = [
        Node("", h.label, h.bytes, BYTES, formula=h.formula)
        for h in cache_parts(arch, b, s, s_enc, bits, cache)
    ]
    total = (
        Node.sum("kv_cache_bytes", "KV cache", rows)
        if len(rows) > 1
        else Node(
            "kv_cache_bytes", "KV cache", rows[0].value, BYTES, formula=rows[0].formula, note=rows[0].label
        )
    )
    growth = cache_bytes(arch, 1, s + 1, s_enc, bits, cache) - cache_bytes(arch, 1, s, s_enc, bits, cache)
    more = [Node("bytes_per_token", "One more token of one sequence", growth, BYTES)]
    latents = [h.bytes for h in cache_parts(arch, b, s, s_enc, bits) if h.latent]
    if latents:
        more.append(Node("latent_bytes", "MLA latents", sum(latents), BYTES, formula=mla_cache_bytes))
    if gpu is not None:
        fit, fit_notes = _fit(model, arch, gpu, dtype, b, s, s_enc, bits, cache)
        more += fit
        assumptions += fit_notes
    body = Node.group("", [total, *more])
    if s_enc is s and any(layer.cross for layer in arch.layers):
        assumptions.append("--encoder-len not given: as many encoder tokens as decoder tokens")
    inputs = {
        "model": model.name,
        "batch_size": b,
        "seq_len": s,
        "kv_dtype": fmt.name,
        "cache": cache,
        "gpu": gpu,
    }
    title = f"KV cache of {model.name}: {_n(b, model)} x {_n(s, model)} tokens in {fmt.name}, {cache}"
    return Report(
        "kvcache",
        title,
        inputs,
        (body,),
        {},
        (*assumptions, *notes),
        (),
        tuple(notes),
        symbolic=model.kind == "symbolic",
    )


def _n(value: Any, model: Model) -> str:
    return str(value.expr) if model.kind == "symbolic" and hasattr(value, "expr") else f"{value_of(value):,}"


def _fit(
    model: Model, arch: Architecture, gpu: str, dtype: str, b: Any, s: Any, s_enc: Any, bits: int, cache: str
) -> tuple[list[Node], list[str]]:
    """The longest context and the largest batch that fit beside the weights, solved exactly."""
    from estimator.presets import load_gpu

    spec = load_gpu(gpu)
    weights = sum(find_format(dtype).bytes(w.total) for w in arch.weights())
    context = spec.measured.context_bytes if spec.measured else 0
    free = spec.memory_bytes - int(value_of(weights)) - context
    batch, length, enc = int(value_of(b)), int(value_of(s)), int(value_of(s_enc))

    def used(n: int, tokens: int) -> int:
        return int(value_of(cache_bytes(arch, n, tokens, enc, bits, cache)))

    rows = [
        Node(
            "free_bytes",
            "Free for the cache",
            max(0, free),
            BYTES,
            note=f"{spec.name} less the weights in {dtype}",
        ),
        Node(
            "max_tokens",
            "Longest context",
            longest(lambda t: used(batch, t) <= free),
            TOKENS,
            note=f"at batch {batch:,}",
        ),
        Node(
            "max_batch",
            "Largest batch",
            longest(lambda n: used(n, length) <= free),
            COUNT,
            note=f"at {length:,} tokens",
        ),
    ]
    return rows, [
        spec.memory_basis,
        "activations of a step are not counted here: llmcalc memory --mode inference",
    ]


LIMIT = 2**62


def longest(fits: Any) -> int | None:
    """The largest n >= 0 for which the monotone ``fits(n)`` holds; None where it holds for all (bounded caches)."""
    if not fits(1):
        return 0
    high = 1
    while fits(high * 2):
        high *= 2
        if high > LIMIT:
            return None
    low = high
    high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
