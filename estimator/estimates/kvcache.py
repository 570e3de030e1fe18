"""Bytes of the cache that generation keeps: keys and values, MLA latents, recurrent states, cross-attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from estimator.dtypes import find_format
from estimator.errors import InputError, unknown
from estimator.families.base import Architecture
from estimator.formulas.kvcache import mla_cache_bytes
from estimator.kv.layers import CACHES, GROUP, KV_FORMATS, Held, Store, cache_bytes, cache_parts, held_tokens, merged
from estimator.models import Model
from estimator.report import Node, Report, Text
from estimator.sizes import size_option
from estimator.trace import trace, value_of
from estimator.units import BITS_PER_BYTE, BYTES, TOKENS

if TYPE_CHECKING:
    from estimator.render.plots import Figure

DEFAULT_TOKENS = 4096


@dataclass(slots=True)
class Plan:
    """One question: b sequences of m given and T generated tokens (n together), s_enc encoder tokens, how it is kept."""

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
        store = replace(self.store, bits=value_of(self.store.bits), shared=min(int(value_of(self.store.shared)), tokens), new=0)
        return int(value_of(sum(h.bytes for h in cache_parts(self.arch, b, tokens, value_of(self.s_enc), store.bits, store=store))))

    @property
    def symbolic(self) -> bool:
        return self.model.kind == "symbolic"

    def show(self, value: Any) -> str:
        return str(value.expr) if self.symbolic and hasattr(value, "expr") else f"{value_of(value):,}"


def kvcache(
    model: Model,
    batch_size: Any = 1,
    seq_len: Any = None,
    kv_dtype: str = "bf16",
    cache: str = "dynamic",
    encoder_len: Any = None,
    gpu: str | None = None,
    dtype: str = "bf16",
    *,
    new_tokens: Any = None,
    block_size: Any = None,
    kv_group: Any = None,
    shared_prefix: Any = None,
    quantization: str = "none",
    workspace: str = "simulated",
    complexity: bool = False,
) -> Report:
    """The KV cache of ``model`` after ``seq_len`` tokens (and ``new_tokens`` more) of ``batch_size`` sequences.

    Sizes may be ints or texts (``8k``). cache: dynamic, static (transformers), paged (vLLM, blocks of ``block_size``)
    or quantized (transformers' QuantizedCache). kv_group: numbers that share a scale; shared_prefix: tokens that all
    sequences share. gpu: what fits beside the weights stored in ``dtype`` or a ``quantization`` scheme and beside a
    pass's workspace ("simulated", "none" or a size). complexity: multiply-adds without and with a cache.
    Raises InputError for models without a cache, formats no cache is kept in, and options that contradict each other.
    """
    from estimator.kv.fit import check_workspace

    check_workspace(workspace)
    p = plan(model, batch_size, seq_len, new_tokens, kv_dtype, cache, encoder_len, block_size, kv_group, shared_prefix)
    notes = [*model.notes, *_beyond(p)]
    parts = p.parts()
    body: list[Any] = [Node.group("", [_total(p, parts), *_beside(p, parts)])]
    facts: dict[str, Any] = {}
    if gpu is not None:
        fit, said = fit_rows(p, gpu, dtype, quantization, workspace)
        body.append(fit)
        p.said += said
    if complexity:
        from estimator.kv.complexity import FACTS
        from estimator.kv.complexity import complexity as counts

        if p.T is None:
            raise InputError("--complexity needs --new-tokens: how many tokens are generated after the prompt")
        body += counts(p.arch, p.m, p.T)
        facts |= FACTS
    inputs = {
        "model": model.name, "batch_size": p.b, "seq_len": p.m, "new_tokens": p.T, "kv_dtype": kv_dtype, "cache": cache, "gpu": gpu,
    }  # fmt: skip
    tokens = p.show(p.m) if p.T is None else f"({p.show(p.m)} + {p.show(p.T)})"
    title = f"KV cache of {model.name}: {p.show(p.b)} x {tokens} tokens in {p.dtype}, {cache}"
    return Report(
        "kvcache", title, inputs, tuple(body), facts, (*p.said, *notes), (), tuple(notes), symbolic=p.symbolic,
        letters=({} if p.dtype in KV_FORMATS else {p.dtype: "bytes of a cached number"}) | {"shared_prefix": "tokens that all sequences share"},
    )  # fmt: skip


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
    shared = 0 if shared_prefix is None else size_option(model, shared_prefix, "--shared-prefix", "shared_prefix", "length")
    n = m if T is None else m + T
    if value_of(shared) > value_of(n):
        raise InputError(f"--shared-prefix {value_of(shared):,} is longer than the sequences of {value_of(n):,} tokens")
    if value_of(shared) and cache in ("static", "quantized"):
        raise InputError(f"--shared-prefix: a {cache} cache holds each sequence whole; use --cache paged (or dynamic for the bare count)")
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
        said.append(f"blocks of {block} tokens a layer and sequence, as vLLM's{'' if block_size is not None else ' default'}")
    if cache == "quantized":
        group = None if name == "fp8" else group or GROUP
        said.append(
            "transformers' QuantizedCache (Fp8QuantizedLayer): one fp32 scale for the keys and one for the values of a layer"
            if name == "fp8"
            else f"transformers' QuantizedCache (quanto, HQQ): a 16-bit scale and zero point for each {group} numbers; the prompt is "
            "quantised at once, generated tokens wait in 16 bits and are quantised with everything else every 128"
        )
    elif name in ("int8", "int4"):
        said.append(f"{name}: " + ("codes only; --kv-group N adds a scale for each N numbers" if group is None else f"a 16-bit scale for each {group} numbers, symmetric"))
    return Store(cache, bits, block, group)


def _beyond(p: Plan) -> list[str]:
    if p.arch.max_positions and value_of(p.n) > p.arch.max_positions:
        return [f"{value_of(p.n):,} tokens exceed the model's max_position_embeddings of {p.arch.max_positions:,}"]
    return []


def _total(p: Plan, parts: list[Held]) -> Node:
    if len(parts) == 1:
        h = parts[0]
        return Node("kv_cache_bytes", "KV cache", h.bytes, BYTES, formula=h.formula, note=h.named(p.show(h.layers)))
    rows = [Node("", h.named(p.show(h.layers)), h.bytes, BYTES, formula=h.formula) for h in parts]
    return Node.sum("kv_cache_bytes", "KV cache", rows)


def _beside(p: Plan, parts: list[Held]) -> list[Node]:
    """Growth by a token, latents, what blocks waste, what sharing saves, the scratch of a quantised cache."""
    arch, bits = p.arch, p.store.bits
    plain = Store("quantized" if p.store.cache == "quantized" else "dynamic", bits, group=p.store.group)

    def bare(b: Any, n: Any, store: Store = plain) -> Any:
        return sum(h.bytes for h in cache_parts(arch, b, n, p.s_enc, bits, store=store))

    out = [Node("bytes_per_token", "One more token of one sequence", bare(1, p.n + 1) - bare(1, p.n), BYTES)]
    latents = [h.bytes for h in cache_parts(arch, p.b, p.n, p.s_enc, bits) if h.latent]
    if latents:
        out.append(Node("latent_bytes", "MLA latents", sum(latents), BYTES, formula=mla_cache_bytes))
        out.append(Node("expanded_bytes", "The same as keys and values a head", expanded(p), BYTES, note="what the latent replaces"))
    if p.store.cache == "paged":
        whole = sum(h.bytes for h in parts)
        exact = bare(p.b, p.n, Store("static", bits, group=p.store.group, shared=p.store.shared))
        if value_of(whole) >= value_of(exact):
            out.append(Node("unused_bytes", "Of it unused: rests of blocks", whole - exact, BYTES))
    if value_of(p.store.shared):
        alone = sum(h.bytes for h in cache_parts(arch, p.b, p.n, p.s_enc, bits, store=replace(p.store, shared=0)))
        out.append(Node("shared_saving_bytes", "Saved by the shared prefix", alone - sum(h.bytes for h in parts), BYTES))
    if any(value_of(h.scratch) for h in parts):
        largest = max((h.scratch for h in parts), key=value_of)
        out.append(Node("scratch_bytes", "Scratch: one layer unpacked and concatenated", largest, BYTES))
    return out


def expanded(p: Plan) -> Any:
    """Bytes of an MLA model's keys and values if every head kept its own, as other attention does."""
    total: Any = 0
    for layer in p.arch.layers:
        a = layer.mixer
        mla = getattr(a, "mla", None)
        if mla is not None and layer.side == "decoder":
            total = total + layer.times * p.b * p.n * a.heads * (mla["nope"] + mla["rope"] + mla["v"]) * p.store.bits // BITS_PER_BYTE
    return total


def fit_rows(p: Plan, gpu: str, dtype: str, quantization: str, workspace: str) -> tuple[Node, list[str]]:
    """What fits on ``gpu``, and what was assumed."""
    from estimator.kv import fit

    if p.symbolic:
        raise InputError("--gpu needs a model of known sizes: --model symbolic has none")
    place = fit.room(p.model, gpu, dtype, quantization)
    extra, said = fit.workspace_of(p.model, workspace)
    rows = fit.rows(place, p.used, extra, int(value_of(p.b)), int(value_of(p.n)))
    how = dtype if quantization in ("none", "") else quantization
    return Node.group(f"On one {place.name}, weights in {how}", rows), [*place.notes, *said]


def growth(report: Report, model: Model, **options: Any) -> Figure:
    """The figure of ``--plot``: bytes against tokens, for the options of :func:`plan`."""
    from estimator.kv.growth import figure

    keys = ("batch_size", "seq_len", "new_tokens", "kv_dtype", "cache", "encoder_len", "block_size", "kv_group", "shared_prefix")
    p = plan(model, *(options.get(k) for k in keys))
    if p.symbolic:
        raise InputError("--plot needs a model of known sizes: --model symbolic has none")
    b, n = int(value_of(p.b)), int(value_of(p.n))
    free = report.results().get("free_bytes")
    return figure(model.name, lambda t: p.used(b, t), n, p.arch.max_positions, free)


def drawn(figure: Figure) -> Text:
    """The figure in the terminal."""
    from estimator.render.plots import terminal

    return Text("Growth with the context", terminal(figure))


__all__ = ["CACHES", "KV_FORMATS", "TOKENS", "cache_bytes", "cache_parts", "drawn", "expanded", "growth", "held_tokens", "kvcache", "plan"]
