"""From options to the question that ``llmcalc kvcache`` answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from estimator.dtypes import find_format
from estimator.errors import InputError, unknown
from estimator.families.base import Architecture
from estimator.kv.layers import CACHES, GROUP, KV_FORMATS, Held, Store, cache_parts, merged
from estimator.models import Model
from estimator.sizes import size_option
from estimator.trace import trace, value_of
from estimator.units import BITS_PER_BYTE

DEFAULT_TOKENS = 4096


@dataclass(slots=True)
class Plan:
    """One question: b sequences of m given and T generated tokens (n together), s_enc encoder tokens, the store."""

    model: Model
    arch: Architecture
    b: Any
    m: Any
    T: Any
    s_enc: Any
    store: Store
    dtype: str
    said: list[str]

    @property
    def n(self) -> Any:
        return self.m if self.T is None else self.m + self.T

    def parts(self) -> list[Held]:
        return merged(cache_parts(self.arch, self.b, self.n, self.s_enc, self.store.bits, store=self.store))

    def used(self, b: int, tokens: int) -> int:
        """Bytes at a batch and a context, without derivation."""
        store = replace(
            self.store, bits=value_of(self.store.bits), shared=min(int(value_of(self.store.shared)), tokens), new=0
        )
        return int(
            value_of(
                sum(h.bytes for h in cache_parts(self.arch, b, tokens, value_of(self.s_enc), store.bits, store=store))
            )
        )

    @property
    def symbolic(self) -> bool:
        return self.model.kind == "symbolic"

    def show(self, value: Any) -> str:
        return str(value.expr) if self.symbolic and hasattr(value, "expr") else f"{value_of(value):,}"


def plan(
    model: Model,
    batch_size: Any,
    seq_len: Any,
    new_tokens: Any,
    kv_dtype: str,
    cache: str,
    encoder_len: Any,
    block_size: Any,
    kv_group: Any,
    shared_prefix: Any,
) -> Plan:
    """The question that these options ask."""
    if cache not in CACHES:
        raise unknown("--cache", cache, CACHES)
    arch, said = model.architecture, []
    if arch.kind == "encoder":
        raise InputError(f"{model.name}: an encoder keeps no KV cache")
    b = size_option(model, batch_size, "--batch-size", "batch_size", "length")
    m = size_option(model, DEFAULT_TOKENS if seq_len is None else seq_len, "--seq-len", "seq_len", "length")
    T = None if new_tokens is None else size_option(model, new_tokens, "--new-tokens", "new_tokens", "length")
    s_enc = m if encoder_len is None else size_option(model, encoder_len, "--encoder-len", "encoder_len", "length")
    if seq_len is None:
        said.append(f"--seq-len not given: {DEFAULT_TOKENS} tokens")
    if encoder_len is None and any(layer.cross for layer in arch.layers):
        said.append("--encoder-len not given: as many encoder tokens as decoder tokens")
    name, bits = _bits(model, kv_dtype, cache)
    store = _store(cache, name, bits, block_size, kv_group, said)
    shared = (
        0 if shared_prefix is None else size_option(model, shared_prefix, "--shared-prefix", "shared_prefix", "length")
    )
    n = m if T is None else m + T
    if value_of(shared) > value_of(n):
        raise InputError(f"--shared-prefix {value_of(shared):,} is longer than the sequences of {value_of(n):,} tokens")
    if value_of(shared) and cache in ("static", "quantized"):
        raise InputError(
            f"--shared-prefix: a {cache} cache holds each sequence whole; use --cache paged, or dynamic for the count"
        )
    store = replace(store, shared=shared, new=0 if T is None else T)
    return Plan(model, arch, b, m, T, s_enc, store, name, said)


def _bits(model: Model, kv_dtype: str, cache: str) -> tuple[str, Any]:
    """The format's name and bits a number; with a symbolic model a letter stands for bytes."""
    if model.kind == "symbolic" and kv_dtype.isidentifier() and kv_dtype.lower() not in KV_FORMATS:
        from estimator.dtypes import ALIASES, FORMATS

        if kv_dtype.lower() not in FORMATS and kv_dtype.lower() not in ALIASES:
            return kv_dtype, BITS_PER_BYTE * trace("kv_bytes", 2, name=kv_dtype)
    fmt = find_format(kv_dtype, "--kv-dtype")
    if fmt.name not in KV_FORMATS:
        raise InputError(f"--kv-dtype {kv_dtype}: KV caches are not stored as {kv_dtype}. Use {', '.join(KV_FORMATS)}")
    if cache == "quantized" and fmt.name not in ("fp8", "int8", "int4"):
        raise InputError(f"--cache quantized holds fp8, int8 or int4, got --kv-dtype {kv_dtype}")
    return fmt.name, fmt.block_bits // fmt.block


def _store(cache: str, name: str, bits: Any, block_size: Any, kv_group: Any, said: list[str]) -> Store:
    """How the cache is kept, with what was assumed about it."""
    if block_size is not None and cache != "paged":
        raise InputError("--block-size is of --cache paged")
    block = Store().block if block_size is None else int(size_option(None, block_size, "--block-size", "block_size"))
    group = None if kv_group is None else int(size_option(None, kv_group, "--kv-group", "kv_group"))
    if group is not None and name not in ("int8", "int4"):
        raise InputError(f"--kv-group is of int8 and int4 caches, got --kv-dtype {name}")
    if cache == "paged":
        said.append(
            f"blocks of {block} tokens a layer and sequence, as vLLM's{'' if block_size is not None else ' default'}"
        )
    if cache == "quantized":
        group = None if name == "fp8" else group or GROUP
        said.append(
            "transformers' QuantizedCache (Fp8QuantizedLayer): an fp32 scale for a layer's keys and one for its values"
            if name == "fp8"
            else f"transformers' QuantizedCache (quanto, HQQ): a 16-bit scale and zero point for each {group} numbers; "
            "the prompt is quantised at once, generated tokens wait in 16 bits until 128 are quantised with the rest"
        )
    elif name in ("int8", "int4"):
        said.append(
            f"{name}: "
            + (
                "codes only; --kv-group N adds a scale for each N numbers"
                if group is None
                else f"a 16-bit scale for each {group} numbers, symmetric"
            )
        )
    return Store(cache, bits, block, group)
