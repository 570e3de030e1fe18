"""Serving: latency, throughput, memory and money of generation, from a roofline over the list of products."""

from __future__ import annotations

from typing import Any

from estimator.card import card_of
from estimator.errors import DoesNotFit
from estimator.families.base import MoE
from estimator.formula import Citation
from estimator.formulas import inference as f
from estimator.formulas.params import total_params
from estimator.models import Model
from estimator.presets import load_gpu
from estimator.report import Node, Report
from estimator.schemas import GpuSpec
from estimator.serving import setup as plan
from estimator.serving.request import Run, context_bytes, curve, passes, plot, price_of, range_said, speculative
from estimator.serving.step import Serving
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE, BYTES, PERCENT, SECONDS, TOKEN_RATE, TOKENS, USD, human
from estimator.work.times import Times

DEFAULT_PROMPT, DEFAULT_NEW = 2048, 256
LABELS = {
    "compute": "Products and attention, bound by compute",
    "memory": "Weights and activations, bound by memory",
    "cache": "Reading the KV cache",
    "launch": "Starting and ending kernels",
    "communication": "All-reduces between GPUs",
}
ROOFLINE = Citation("Williams, Waterman and Patterson 2009, Roofline; Austin et al. 2025, How to Scale Your Model")


def infer(
    model: Model,
    batch_size: Any = 1,
    seq_len: Any = None,
    new_tokens: Any = None,
    gpu: str = "h100-sxm",
    gpus: Any = 1,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    quantization: str = "none",
    engine: str = "transformers",
    graph: bool = True,
    price: float | None = None,
    draft_model: Model | None = None,
    alpha: float = 0.8,
    gamma: int = 5,
    check_fit: bool = False,
) -> Report:
    """Prefill and decode of ``batch_size`` requests of ``seq_len`` prompt tokens and ``new_tokens`` generated ones.

    Seconds; tokens/s; USD for a million generated tokens. price: USD a GPU and hour. draft_model with alpha (chance
    that a drafted token is accepted) and gamma (drafts a pass): speculative decoding. Raises InputError for options
    that do not exist or contradict each other; DoesNotFit with ``check_fit``.
    """
    said = []
    if seq_len is None:
        said.append(f"--seq-len not given: prompts of {DEFAULT_PROMPT} tokens")
    if new_tokens is None:
        said.append(f"--new-tokens not given: {DEFAULT_NEW} tokens are generated")
    n_gpus = int(size_option(None, gpus, "--gpus", "gpus"))
    serve, assumed = plan.setup(model, gpu, n_gpus, dtype, kv_dtype, quantization, engine, graph)
    b = size_option(model, batch_size, "--batch-size", "batch_size", "length")
    s = size_option(model, DEFAULT_PROMPT if seq_len is None else seq_len, "--seq-len", "seq_len", "length")
    new = size_option(model, DEFAULT_NEW if new_tokens is None else new_tokens, "--new-tokens", "new_tokens", "length")
    spec = load_gpu(gpu)
    cost, priced = price_of(spec, price)
    run = Run(model, serve, spec, b, s, new, cost)
    first, step = run.at(b)
    low, high = (passes(x, b, s, new) for x in plan.bounds(serve))
    held = plan.memory(serve, model, b, s, new)
    body: list[Any] = [
        _times("prefill_seconds", "Prefill, time to first token", first, low[0], high[0]),
        _times("decode_step_seconds", "A decode step", step, low[1], high[1]),
        _rates(run, first, step, low, high),
        _memory(held, spec),
        _critical(run),
        curve(run),
    ]
    if draft_model is not None:
        drafted, more = speculative(run, draft_model, step, dtype, alpha, gamma)
        body.insert(3, drafted)
        assumed += more
    notes = [*model.notes, *_beyond(serve, s + new)]
    need = sum(value_of(x) for x in held[:3]) + context_bytes(spec)
    fits = bool(need <= spec.memory_bytes)
    if check_fit and not fits:
        raise DoesNotFit(
            f"{model.name} needs {human(need, BYTES)} a GPU; {spec.id} has {human(spec.memory_bytes, BYTES)}"
        )
    facts = {"bound": step.bound, "prefill.bound": first.bound, "fits": fits}
    shape = f"{value_of(b):,} x ({value_of(s):,} + {value_of(new):,}) tokens"
    title = f"Serving {model.name}: {shape} in {dtype} on {n_gpus} x {spec.id}"
    inputs = {
        "model": model.name, "batch_size": b, "seq_len": s, "new_tokens": new, "gpu": gpu, "gpus": n_gpus,
        "dtype": dtype, "kv_dtype": kv_dtype, "quantization": quantization, "engine": engine, "price": cost,
    }  # fmt: skip
    assumptions = (*said, *assumed, *card_of(spec).notes, *held[3], *priced, *range_said(serve), *notes)
    return Report("infer", title, inputs, tuple(body), facts, assumptions, (ROOFLINE,), tuple(notes))


def _times(key: str, label: str, step: Times, low: Times, high: Times) -> Node:
    """A pass: what it consists of, and beside it the ideal roofline and the bounds."""
    parts = [Node("", LABELS[name], value, SECONDS) for name, value in step.by_bound.items() if value_of(value) > 0]
    parts.sort(key=lambda n: -float(value_of(n.value)))
    if value_of(step.host) > value_of(step.device):
        whole = Node.max(
            key,
            label,
            [Node.sum("", "The GPU's work", parts), Node("", "The host's launches", step.host, SECONDS)],
        )
    else:
        whole = Node.sum(key, label, parts)
    best = float(value_of(step.total))
    fast, slow = min(best, float(value_of(low.total))), max(best, float(value_of(high.total)))
    beside = [
        Node(f"{key}.ideal", "ideal roofline: data sheet peaks", step.ideal, SECONDS),
        Node(f"{key}.low", "low: fused kernels", fast, SECONDS),
        Node(f"{key}.high", "high: slowest measured rates, every kernel launched by the host", slow, SECONDS),
    ]
    return Node.group("", [whole, *beside])


def _rates(run: Run, first: Times, step: Times, low: tuple[Times, Times], high: tuple[Times, Times]) -> Node:
    b, new = run.b, run.new
    rate = run.rate(first.total, step.total, b)
    rows = [
        Node("ttft_seconds", "Time to first token", first.total, SECONDS),
        Node("request_seconds", "A whole request", first.total + (new - 1) * step.total, SECONDS),
        Node("tokens_per_second", "Generated tokens a second, prefill included", rate, TOKEN_RATE),
        Node("decode_tokens_per_second", "Decoding alone", b / step.total, TOKEN_RATE),
        Node("prefill_tokens_per_second", "Prompt tokens a second", b * run.s / first.total, TOKEN_RATE),
    ]
    if run.price is not None:
        usd = run.usd(rate)
        fast, slow = (run.usd(run.rate(value_of(x[0].total), value_of(x[1].total), value_of(b))) for x in (low, high))
        rows += [
            Node(
                "usd_per_million_tokens",
                "A million generated tokens, prompts included",
                usd,
                USD,
                formula=f.usd_per_million,
            ),
            Node("usd_per_million_tokens.low", "low", min(float(value_of(usd)), fast), USD),
            Node("usd_per_million_tokens.high", "high", max(float(value_of(usd)), slow), USD),
            Node(
                "usd_per_million_prompt_tokens",
                "A million prompt tokens, prefill alone",
                run.usd(b * run.s / first.total),
                USD,
            ),
        ]
    peak = run.serve.machine.peak
    share = 100 * float(value_of(first.flops)) / peak / float(value_of(first.total))
    moved = 100 * float(value_of(step.ideal)) / float(value_of(step.total))
    rows += [
        Node("prefill.mfu", "Prefill: model FLOPs over the peak", share, PERCENT),
        Node("decode.roofline_percent", "Decode: share of the ideal roofline", moved, PERCENT),
    ]
    return Node.group("Throughput", rows)


def _memory(held: tuple[Any, Any, Any, list[str]], spec: GpuSpec) -> Node:
    weights, cache, extra, _ = held
    rows = [
        Node("weights_bytes", "Weights", weights, BYTES),
        Node("kv_cache_bytes", "KV cache after the last token", cache, BYTES),
        Node("workspace_bytes", "Workspace of the largest pass", extra, BYTES),
        Node("context_bytes", "CUDA context", context_bytes(spec), BYTES),
    ]
    return Node.sum("memory_bytes", "Memory of a GPU", rows, note=f"of {human(spec.memory_bytes, BYTES)}")


def _critical(run: Run) -> Node:
    """Batch sizes from which the weights' products are bound by compute."""
    serve = run.serve
    m = serve.machine
    bits = BITS_PER_BYTE * float(value_of(serve.weights_bytes)) / float(value_of(total_params(serve.arch)))
    ideal = f.critical_batch(m.peak, m.bandwidth, bits)
    best = f.critical_batch(m.best, m.skinny_rate(ideal), bits)
    rows = [
        Node("critical_batch", "Tokens a step, measured ceilings", best, TOKENS, formula=f.critical_batch),
        Node("critical_batch.ideal", "data sheet peaks", ideal, TOKENS),
    ]
    experts = [g.mlp for g in serve.arch.layers if isinstance(g.mlp, MoE)]
    if experts:
        E, k = (float(value_of(x)) for x in (experts[0].num, experts[0].per_token))
        rows.append(
            Node("critical_batch.experts", "of the routed experts", f.critical_batch_experts(best, E, k), TOKENS)
        )
    return Node.group("Critical batch: above it the weights' products are bound by compute", rows)


def _beyond(serve: Serving, tokens: Any) -> list[str]:
    most = serve.arch.max_positions
    if most and value_of(tokens) > most and serve.arch.kind != "encoder-decoder":
        return [f"{value_of(tokens):,} tokens exceed the model's max_position_embeddings of {most:,}"]
    return []


__all__ = ["infer", "plot"]
