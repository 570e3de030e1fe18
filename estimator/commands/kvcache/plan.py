"""From options to the question that ``llmcalc kvcache`` answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.commands.kvcache.question import KVCache
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.kv.layers import CACHES, GROUP, KV_FORMATS, Held, Store, cache_parts, kv_format, merged
from estimator.models import Model
from estimator.names import choice
from estimator.questions.read import batch, tokens
from estimator.records import dataclass
from estimator.sizes import size_option
from estimator.trace import trace, value_of
from estimator.units import BITS_PER_BYTE

DEFAULT_FORMAT = "bf16"


@dataclass(slots=True)
class CachePlan:
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
    follows: bool = False  # --encoder-len was not given: as many encoder tokens as decoder tokens

    @property
    def n(self) -> Any:
        return self.m if self.T is None else self.m + self.T

    def parts(self) -> list[Held]:
        """What each group of layers keeps; InputError where none keeps anything."""
        found = merged(cache_parts(self.arch, self.b, self.n, self.s_enc, self.store.bits, store=self.store))
        if not found:
            raise InputError(f"{self.model.name}: no layer keeps keys and values, or a state")
        return found

    def used(self, b: int, tokens: int) -> int:
        """Bytes at a batch and a context, without derivation."""
        store = replace(
            self.store, bits=value_of(self.store.bits), shared=min(int(value_of(self.store.shared)), tokens), new=0
        )
        encoder = tokens if self.follows else value_of(self.s_enc)
        return int(
            value_of(
                sum(h.bytes for h in cache_parts(self.arch, b, tokens, encoder, store.bits, store=store))
            )
        )

    @property
    def symbolic(self) -> bool:
        return self.model.kind == "symbolic"

    def show(self, value: Any) -> str:
        return str(value.expr) if self.symbolic and hasattr(value, "expr") else f"{value_of(value):,}"


def plan(q: KVCache) -> CachePlan:
    """The cache that a question asks for."""
    choice(q.cache, "--cache", CACHES)
    model, arch = q.model, q.model.described
    said: list[str] = []
    if arch.kind == "encoder":
        raise InputError(f"{model.name}: an encoder keeps no KV cache")
    new = q.new_tokens
    T = None if new is None else size_option(model, new, "--new-tokens", "new_tokens", "length")
    b, m = batch(model, q.batch_size), tokens(model, q.seq_len, said, 0 if T is None else value_of(T))
    enc = q.encoder_len
    if enc is not None and arch.kind != "encoder-decoder" and not any(layer.cross for layer in arch.layers):
        raise InputError(f"--encoder-len: {model.name} has no encoder beside its decoder")
    always = m if arch.encoder_tokens is None else arch.encoder_tokens
    s_enc = always if enc is None else size_option(model, enc, "--encoder-len", "encoder_len", "length")
    if enc is None and arch.encoder_tokens is None and any(layer.cross for layer in arch.layers):
        beside = "" if T is None else " before --new-tokens (memory and infer: --seq-len is the encoder's alone)"
        said.append(f"--encoder-len not given: as many encoder tokens as decoder tokens{beside}")
    name, bits = _bits(model, q.kv_dtype or DEFAULT_FORMAT, q.cache)
    store = _store(q.cache, name, bits, q.block_size, q.kv_group, said)
    prefix = q.shared_prefix
    shared = 0 if prefix is None else size_option(model, prefix, "--shared-prefix", "shared_prefix", "length")
    n = m if T is None else m + T
    if value_of(shared) > value_of(n):
        raise InputError(f"--shared-prefix {value_of(shared):,} is longer than the sequences of {value_of(n):,} tokens")
    if value_of(shared) and q.cache in ("static", "quantized"):
        raise InputError(
            f"--shared-prefix: a {q.cache} cache holds each sequence whole; use --cache paged, or dynamic for the count"
        )
    store = replace(store, shared=shared, new=0 if T is None else T)
    return CachePlan(model, arch, b, m, T, s_enc, store, name, said, enc is None)


def _bits(model: Model, kv_dtype: str, cache: str) -> tuple[str, Any]:
    """The format's name and bits a number; with a symbolic model a letter stands for bytes."""
    if model.kind == "symbolic" and kv_dtype.isidentifier() and kv_dtype.lower() not in KV_FORMATS:
        from estimator.dtypes import ALIASES, FORMATS

        if kv_dtype.lower() not in FORMATS and kv_dtype.lower() not in ALIASES:
            return kv_dtype, BITS_PER_BYTE * trace("kv_bytes", 2, name=kv_dtype)
    fmt = kv_format(kv_dtype)
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
