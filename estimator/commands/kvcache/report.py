"""Bytes of the cache that generation keeps: keys and values, MLA latents, recurrent states, cross-attention."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from estimator.changes import helping
from estimator.commands.kvcache.plan import DEFAULT_FORMAT, CachePlan, plan
from estimator.commands.kvcache.question import KVCache
from estimator.engines import answered
from estimator.errors import InputError
from estimator.families.base import Attention
from estimator.fit import YES, Fit, fit_of, require_fit
from estimator.formulas.kvcache import mla_cache_bytes
from estimator.kv.layers import KV_FORMATS, Held, Store, cache_parts, ripple, span
from estimator.models import Model
from estimator.ops import ceil_div
from estimator.questions import ask
from estimator.report import Node, Report, Table
from estimator.trace import value_of, wordless
from estimator.units import BITS_PER_BYTE, BYTES

if TYPE_CHECKING:
    from estimator.render.plots import Figure


def kvcache(model: Model | str, batch_size: Any = None, seq_len: Any = None, kv_dtype: str | None = None,
            cache: str | None = None, encoder_len: Any = None, **options: Any) -> Report:  # fmt: skip
    """The KV cache of ``model`` after ``seq_len`` tokens (and ``new_tokens`` more) of ``batch_size`` sequences.

    options: the fields of :class:`~.question.KVCache`; sizes may be ints or texts (``8k``). cache:
    dynamic, static (transformers), paged (vLLM, blocks of ``block_size``) or quantized (transformers' QuantizedCache).
    kv_group: numbers that share a scale; shared_prefix: tokens that all sequences share. gpu: what fits beside the
    weights stored in ``dtype`` or a ``quantization`` scheme and beside a pass's workspace ("simulated", "none" or a
    size). complexity: multiply-adds without and with a cache. Raises InputError for models without a cache, formats no
    cache is kept in, and options that contradict each other.
    """
    options |= {"batch_size": batch_size, "seq_len": seq_len, "kv_dtype": kv_dtype, "cache": cache}
    q = ask(KVCache, model, options | {"encoder_len": encoder_len})
    report = answer(q)
    if q.check_fit:
        require_fit(report)
    return report


def answer(q: KVCache) -> Report:
    """The report of a question."""
    from estimator.commands.kvcache.fit import check_workspace

    report = answered("kvcache", q)
    if report is not None:
        return report
    if q.gpus is not None and str(q.gpus) != "1":
        raise InputError(f"--gpus {q.gpus} is of serving engines: add --engine vllm")
    model = q.model
    check_workspace(q.workspace)
    p = plan(q)
    notes = [*model.notes, *_beyond(p)]
    parts = p.parts()
    body: list[Any] = [Node.group("", [_total(p, parts), *_beside(p, parts)])]
    facts: dict[str, Any] = {}
    verdict, changes = "", list[Table]()
    on_card = q.gpu is not None or q.gpu_memory is not None
    if on_card:
        room, fit, changes, verdict = fit_rows(p, q)
        body += [room, fit.node(), *changes]
        facts["fits"] = fit.answer
    if q.complexity:
        from estimator.commands.kvcache.complexity import FACTS
        from estimator.commands.kvcache.complexity import complexity as counts

        if p.T is None:
            raise InputError("--complexity needs --new-tokens: how many tokens are generated after the prompt")
        body += counts(p.arch, p.m, p.T)
        facts |= FACTS
    inputs = {
        "model": model.name, "batch_size": p.b, "seq_len": p.m, "new_tokens": p.T,
        "kv_dtype": q.kv_dtype or DEFAULT_FORMAT, "cache": q.cache, "gpu": q.gpu,
    }  # fmt: skip
    tokens = p.show(p.m) if p.T is None else f"({p.show(p.m)} + {p.show(p.T)})"
    title = f"KV cache of {model.name}: {p.show(p.b)} x {tokens} tokens in {p.dtype}, {q.cache}"
    letters = {"shared_prefix": "tokens that all sequences share"}
    if p.dtype not in KV_FORMATS:
        letters[p.dtype] = "bytes of a cached number"
    made = Report(
        "kvcache", title, inputs, tuple(body), facts, (*p.said, *notes), (), tuple(notes), p.symbolic, letters=letters,
        verdict=verdict,
    )  # fmt: skip
    first = [body[0], body[1], *(helping(c, 3) for c in changes)] if on_card else [body[0]]
    return made._replace(figure=lambda: growth(made, q), brief=() if p.symbolic or q.complexity else tuple(first))


def _beyond(p: CachePlan) -> list[str]:
    if p.arch.max_positions and value_of(p.n) > p.arch.max_positions:
        return [f"{value_of(p.n):,} tokens exceed the model's max_position_embeddings of {p.arch.max_positions:,}"]
    return []


def _total(p: CachePlan, parts: list[Held]) -> Node:
    if len(parts) == 1:
        h = parts[0]
        return Node("kv_cache_bytes", "KV cache", h.bytes, BYTES, formula=h.formula, note=h.named(p.show(h.layers)))
    rows = [Node("", h.named(p.show(h.layers)), h.bytes, BYTES, formula=h.formula) for h in parts]
    return Node.sum("kv_cache_bytes", "KV cache", rows)


def _beside(p: CachePlan, parts: list[Held]) -> list[Node]:
    """Growth by a token, latents, what blocks waste, what sharing saves, the scratch of a quantised cache."""
    arch, bits = p.arch, p.store.bits
    plain = Store("quantized" if p.store.cache == "quantized" else "dynamic", bits, group=p.store.group)

    def bare(b: Any, n: Any, store: Store = plain) -> Any:
        return sum(h.bytes for h in cache_parts(arch, b, n, p.s_enc, bits, store=store))

    tokens = span(arch)  # what waits for a window of a pool comes and goes
    more = bare(1, p.n + tokens) - bare(1, p.n)
    note = f"the mean of {tokens} more" if tokens > 1 else ""
    more = ceil_div(more, tokens) if tokens > 1 else more
    out = [Node("bytes_per_token", "One more token of one sequence", more, BYTES, note=note)]
    latents = [h.bytes for h in cache_parts(arch, p.b, p.n, p.s_enc, bits) if h.latent]
    if latents:
        out.append(Node("latent_bytes", "MLA latents", sum(latents), BYTES, formula=mla_cache_bytes))
        out.append(
            Node(
                "expanded_bytes",
                "The same as keys and values a head",
                expanded(p),
                BYTES,
                note="what the latent replaces",
            )
        )
    if p.store.cache == "paged":
        whole = sum(h.bytes for h in parts)
        exact = bare(p.b, p.n, Store("static", bits, group=p.store.group, shared=p.store.shared))
        if value_of(whole) >= value_of(exact):
            out.append(Node("unused_bytes", "Of it unused: rests of blocks", whole - exact, BYTES))
    if value_of(p.store.shared):
        alone = sum(h.bytes for h in cache_parts(arch, p.b, p.n, p.s_enc, bits, store=replace(p.store, shared=0)))
        out.append(
            Node("shared_saving_bytes", "Saved by the shared prefix", alone - sum(h.bytes for h in parts), BYTES)
        )
    if any(value_of(h.scratch) for h in parts):
        largest = max((h.scratch for h in parts), key=value_of)
        out.append(Node("scratch_bytes", "Scratch: one layer unpacked and concatenated", largest, BYTES))
    return out


def expanded(p: CachePlan) -> Any:
    """Bytes of an MLA model's keys and values if every head kept its own, as other attention does."""
    total: Any = 0
    for layer in p.arch.layers:
        a = layer.mixer
        if isinstance(a, Attention) and a.mla is not None and layer.side == "decoder":
            mla = a.mla
            total = (
                total
                + layer.times
                * p.b
                * p.n
                * a.heads
                * (mla["nope"] + mla["rope"] + mla["v"])
                * p.store.bits
                // BITS_PER_BYTE
            )
    return total


def fit_rows(p: CachePlan, q: KVCache) -> tuple[Node, Fit, list[Table], str]:
    """(what fits beside the weights, whether this cache does, what would change that, all in words)."""
    from estimator.commands.kvcache import fit

    if p.symbolic:
        raise InputError("--gpu needs a model of known sizes: --model symbolic has none")
    place = fit.room(p.model, q.gpu, q.dtype, q.quantization, q.gpu_memory)
    extra, said = fit.workspace_of(p.model, q.workspace, place.card.kernels)
    b, n = int(value_of(p.b)), int(value_of(p.n))
    block = int(value_of(p.store.block)) if p.store.cache == "paged" else 1
    rows = fit.rows(place, p.used, extra, b, n, p.arch.max_positions, ripple(p.arch, partial(p.used, b), block))
    how = q.dtype if place.scheme == "none" else place.scheme
    node = Node.group(f"On one {place.name}, weights in {how}", rows)
    simulated = _simulated(p, q)
    peak = int(value_of(place.weights)) + p.used(b, n) + extra(b, n) if simulated is None else simulated
    found = fit_of(peak, place.card, "inference")
    assert found is not None  # a preset has a size
    p.said += [*place.notes, *said]
    words = found.sentence()
    if found.answer == YES or simulated is None or wordless():
        return node, found, [], words
    from estimator.commands.memory.changes import advice
    from estimator.commands.memory.question import generating

    changes, best = advice(generating(q, p.b, q.seq_len, p.T), place.card, peak)
    return node, found, [changes], words + best


def _simulated(p: CachePlan, q: KVCache) -> int | None:
    """Bytes of the tensors at the peak as ``memory`` simulates transformers' dynamic cache; None for any other."""
    plain = q.cache == "dynamic" and q.workspace == "simulated" and p.dtype in ("bf16", "fp16")
    if not plain or value_of(p.store.shared):
        return None
    from estimator.commands.memory.plan import plan as memory_plan
    from estimator.commands.memory.plan import simulate
    from estimator.commands.memory.question import generating

    try:
        return int(value_of(simulate(memory_plan(generating(q, p.b, p.m, p.T))).worst.peak))
    except InputError:
        return None


def growth(report: Report, q: KVCache) -> Figure:
    """The figure of ``--plot``: bytes against tokens, with a pass's workspace where a GPU is asked about."""
    from estimator.card import find_card
    from estimator.commands.kvcache.fit import workspace_of
    from estimator.commands.kvcache.growth import figure
    from estimator.models import load_model

    if q.model.kind == "symbolic":
        raise InputError("--plot needs a model of known sizes: --model symbolic has none")
    p = plan(replace(q, model=load_model(q.model.name)) if q.traced else q)
    b, n = int(value_of(p.b)), int(value_of(p.n))
    found = report.results()
    free = found.get("free_bytes")
    if free is None:
        return figure(p.model.name, lambda t: p.used(b, t), n, p.arch.max_positions, None)
    extra = workspace_of(p.model, q.workspace, find_card(q.gpu, q.gpu_memory).kernels)[0]
    longest = found["max_tokens"]
    return figure(p.model.name, lambda t: p.used(b, t) + extra(b, t), n, p.arch.max_positions, free, longest)
