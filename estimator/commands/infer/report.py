"""Serving: latency, throughput, memory and money of generation, from a roofline over the list of products."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from estimator.card import Range, card_of, find_card
from estimator.changes import helping
from estimator.commands.infer.question import Infer
from estimator.engines import answered, engine_of
from estimator.errors import InputError
from estimator.families.base import MoE
from estimator.fit import YES, Fit, fit_of, need, require_fit
from estimator.formula import Citation
from estimator.formulas import inference as f
from estimator.formulas.params import total_params
from estimator.models import Model, load_model
from estimator.ops import minimum
from estimator.presets import load_gpu
from estimator.prices import price_of
from estimator.questions import ask
from estimator.questions.read import batch, tokens
from estimator.records import replace
from estimator.report import Node, Report, Table
from estimator.schemas import GpuSpec
from estimator.serving import setup as plan
from estimator.serving.request import (
    ServedRequest,
    curve,
    draft_of,
    drafted_bytes,
    figure,
    passes,
    range_said,
    speculative,
)
from estimator.serving.step import Serving
from estimator.sizes import size_option
from estimator.storage import model_storage
from estimator.trace import Traced, trace, value_of, wordless
from estimator.units import BITS_PER_BYTE, BYTES, PERCENT, SECONDS, TOKEN_RATE, TOKENS, USD, human
from estimator.work.times import Times

if TYPE_CHECKING:
    from estimator.commands.memory.plan import MemoryPlan

DEFAULT_NEW = 256
LABELS = {
    "compute": "Products and attention, bound by compute",
    "memory": "Weights and activations, bound by memory",
    "cache": "Reading the KV cache",
    "launch": "Starting and ending kernels",
    "communication": "All-reduces between GPUs",
}
ROOFLINE = Citation("Williams, Waterman and Patterson 2009, Roofline; Austin et al. 2025, How to Scale Your Model")


def infer(
    model: Model | str, batch_size: Any = None, seq_len: Any = None, new_tokens: Any = None, **options: Any
) -> Report:
    """Prefill and decode of ``batch_size`` requests of ``seq_len`` prompt tokens and ``new_tokens`` generated ones.

    Seconds; tokens/s; USD for a million generated tokens. options: the fields of
    :class:`~.question.Infer`. price: USD a GPU and hour. draft_model with alpha (chance that a drafted
    token is accepted) and gamma (drafts a pass): speculative decoding. Raises InputError for options that do not exist
    or contradict each other; DoesNotFit with ``check_fit``.
    """
    q = ask(Infer, model, options | {"batch_size": batch_size, "seq_len": seq_len, "new_tokens": new_tokens})
    report = answer(q)
    if q.check_fit:
        require_fit(report)
    return report


def answer(q: Infer) -> Report:
    """The report of a question."""
    report = answered("infer", q)
    if report is not None:
        return report
    q = replace(q, engine=engine_of(q), gpus=_gpus(q))
    model, gpu = q.model, q.gpu
    said: list[str] = []
    if q.new_tokens is None:
        said.append(f"--new-tokens not given: {DEFAULT_NEW} tokens are generated")
    n_gpus = int(size_option(None, q.gpus, "--gpus", "gpus"))
    serve, assumed = plan.setup(model, gpu, n_gpus, q.dtype, q.kv_dtype, q.quantization, q.engine, q.graph)
    new = size_option(model, q.new_tokens or DEFAULT_NEW, "--new-tokens", "new_tokens", "length")
    b, s = batch(model, q.batch_size), tokens(model, q.seq_len, said, int(value_of(new)))
    spec = load_gpu(gpu)
    price = price_of(spec, q.price)
    run = ServedRequest(model, serve, spec, b, s, new, price.usd)
    first, step = run.at(b)
    plain = run.in_numbers()
    low, high = (passes(x, plain.b, plain.s, plain.new) for x in plan.bounds(plain.serve))
    if plain is not run and any(value_of(x.ideal) > y.ideal for x, y in zip((first, step), low, strict=True)):
        low = passes(plan.bounds(serve)[0], b, s, new)  # its roofline is the one that is derived
    held = plan.memory(serve, model, b, s, new, card_of(spec).kernels)
    draft = load_model(q.draft_model) if isinstance(q.draft_model, str) else q.draft_model
    helper = None if draft is None else draft_of(run, draft, q.dtype)
    peaks, card = cache(partial(allocated, plain, helper, one_step(q, plain))), find_card(q.gpu, q.gpu_memory)
    peak = peaks(int(value_of(plain.b)))
    body: list[Any] = [
        _times("prefill_seconds", "Prefill, time to first token", first, low[0], high[0]),
        _times("decode_step_seconds", "A decode step", step, low[1], high[1]),
        _rates(run, first, step, low, high),
        _memory(held, spec),
        _critical(run),
    ]
    if draft is not None and helper is not None:
        drafted, more = speculative(run, draft, helper, step, q.alpha, q.gamma)
        body.insert(3, drafted)
        assumed += more
    notes = [*model.notes, *_beyond(serve, s + new)]
    fit = fit_of(peak, card, "inference")
    assert fit is not None  # a preset has a size
    body.insert(4, fit.node())
    facts = {"bound": step.bound, "prefill.bound": first.bound, "fits": fit.answer}
    if wordless():
        return Report("infer", "", {}, tuple(body), facts)

    def needs(batch: int) -> Range:
        return need(peaks(batch), card, "inference")

    body.append(curve(plain, (first, step), fit.have, needs))
    changes, best = None, ""
    if fit.answer != YES and n_gpus == 1 and helper is None:
        from estimator.commands.memory.changes import advice
        from estimator.commands.memory.question import generating

        changes, best = advice(generating(q, b, s, new), card, peak)
        body.insert(5, changes)
    if fit.answer != YES and helper is not None:
        alone = fit_of(allocated(plain, None, one_step(q, plain), int(value_of(plain.b))), card, "inference")
        best = f" Without --draft-model: {human(alone.need.best, BYTES)}." if alone is not None else ""
    shape = f"{value_of(b):,} x ({value_of(s):,} + {value_of(new):,}) tokens"
    title = f"Serving {model.name}{'' if draft is None else f' with drafts of {draft.name}'}: {shape} in "
    title += f"{stored_in(model, q)} on {n_gpus} x {spec.id}"
    inputs = {
        "model": model.name, "batch_size": b, "seq_len": s, "new_tokens": new, "gpu": gpu, "gpus": n_gpus,
        "dtype": q.dtype, "kv_dtype": q.kv_dtype, "quantization": q.quantization, "engine": q.engine,
        "price": price.usd,
    }  # fmt: skip
    assumptions = (*said, *assumed, *card_of(spec).notes, *held[3], price.note, *range_said(serve), *notes)
    made = Report(
        "infer", title, inputs, tuple(body), facts, assumptions, (ROOFLINE,), tuple(notes),
        verdict=fit.sentence("a GPU " if n_gpus > 1 else "") + best,
    )  # fmt: skip
    return made._replace(figure=lambda: figure(made), brief=_brief(made, fit, changes))


FIRST = ("prefill_seconds", "decode_step_seconds", "request_seconds", "tokens_per_second", "decode_tokens_per_second",
         "usd_per_million_tokens", "speculative.speedup", "weights_bytes", "kv_cache_bytes", "draft_weights_bytes",
         "draft_kv_cache_bytes")  # fmt: skip


LESS = ("decode_tokens_per_second", "request_seconds")


def _brief(report: Report, fit: Fit, changes: Table | None) -> tuple[Node | Table, ...]:
    """The rows that people ask first, and the batches that fit, or what would make it fit."""
    found = {n.key: n for n in report.nodes()}
    left_out = LESS if "draft_weights_bytes" in found else LESS[:1] if changes is not None else ()  # room for what else
    keys = [k for k in FIRST if k in found and k not in left_out]
    rows = [found[k]._replace(key="", children=(), how="") for k in keys]
    rows.append(Node("", f"Needed on {fit.card}", fit.need.best, BYTES))
    if changes is not None:
        return (Node.group("", rows), helping(changes, 3))
    by_batch = next(x for x in report.body if isinstance(x, Table) and x.title == "By batch")
    few = [row for row in by_batch.rows if str(row[0]) in ("1", "8", "64", "512")]
    few = [row[:5] + row[6:] for row in few] or [row[:5] + row[6:] for row in by_batch.rows[:4]]
    columns = by_batch.columns[:5] + by_batch.columns[6:]
    return (Node.group("", rows), by_batch._replace(rows=tuple(few), columns=columns))


def _gpus(q: Infer) -> Any:
    """The GPUs that share every layer. InputError where --gpus and --tensor-parallel say so many and so many."""
    gpus, tensor = str(q.gpus), str(q.tensor_parallel)
    if "1" not in (gpus, tensor) and gpus != tensor:
        raise InputError(f"--gpus {gpus} with --tensor-parallel {tensor}: copies are of serving engines: --engine vllm")
    return q.gpus if tensor == "1" else q.tensor_parallel


def stored_in(model: Model, q: Infer) -> str:
    """What the weights are stored in: the scheme of ``--quantization`` or of the files, else ``--dtype``."""
    scheme = model_storage(model, q.quantization, q.dtype).scheme
    return str(q.dtype) if scheme == "none" else scheme


def one_step(q: Infer, run: ServedRequest) -> MemoryPlan | None:
    """The pass as ``memory`` simulates it on one GPU, of which a batch changes the load alone; None on several."""
    if run.serve.gpus > 1:
        return None
    from estimator.commands.memory.plan import plan as memory_plan
    from estimator.commands.memory.question import generating

    return memory_plan(generating(q, run.b, run.s, run.new))


def allocated(run: ServedRequest, helper: Serving | None, one: MemoryPlan | None, b: int) -> int:
    """Bytes that the tensors of a GPU peak at with ``b`` sequences: as ``memory`` simulates the pass on one, the sum of
    the shares on several; with a draft model's weights and cache. The verdict and every row of the batches ask this."""
    beside = 0 if helper is None else sum(drafted_bytes(run, helper, b))
    if one is None:
        held = plan.memory(run.serve, run.model, b, run.s, run.new, card_of(run.spec).kernels)
        return beside + sum(int(value_of(x)) for x in held[:3])
    from estimator.commands.memory.plan import simulate

    return beside + int(value_of(simulate(replace(one, load=replace(one.load, b=b))).worst.peak))


def ideal_of(step: Times, low: Times) -> Any:
    """The roofline of a pass, or of its fused kernels where they do without some of its work (MLA's expansion)."""
    return minimum(step.ideal, low.ideal)


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
    best = float(value_of(whole.value))
    fast, slow = min(best, float(value_of(low.total))), max(best, float(value_of(high.total)))
    beside = [
        Node(f"{key}.ideal", "ideal roofline: data sheet peaks", ideal_of(step, low), SECONDS),
        Node(f"{key}.low", "low: fused kernels", fast, SECONDS),
        Node(f"{key}.high", "high: slowest measured rates, every kernel launched by a busy host", slow, SECONDS),
    ]
    return Node.group("", [whole, *beside])


def _lettered(field: str, seconds: Any) -> Any:
    """Seconds that are derived above as the letter that stands for them in what follows."""
    return trace(field, seconds.value, integer=False) if isinstance(seconds, Traced) else seconds


def _rates(run: ServedRequest, first: Times, step: Times, low: tuple[Times, Times], high: tuple[Times, Times]) -> Node:
    b, new = run.b, run.new
    t_pre, t_dec = _lettered("prefill_seconds", first.total), _lettered("decode_step_seconds", step.total)
    rate = run.rate(t_pre, t_dec, b)
    rows = [
        Node("ttft_seconds", "Time to first token", t_pre, SECONDS),
        Node("request_seconds", "A whole request", t_pre + (new - 1) * t_dec, SECONDS),
        Node("tokens_per_second", "Generated tokens a second, prefill included", rate, TOKEN_RATE),
        Node("decode_tokens_per_second", "Decoding alone", b / t_dec, TOKEN_RATE),
        Node("prefill_tokens_per_second", "Prompt tokens a second", b * run.s / t_pre, TOKEN_RATE),
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
                run.usd(b * run.s / t_pre),
                USD,
            ),
        ]
    peak = run.serve.machine.peak
    share = 100 * float(value_of(first.flops)) / peak / float(value_of(first.total))
    moved = 100 * float(value_of(ideal_of(step, low[1]))) / float(value_of(step.total))
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
        Node("context_bytes", "CUDA context", card_of(spec).context.best, BYTES),
    ]
    return Node.sum("memory_bytes", "Memory of a GPU", rows, note=f"of {human(spec.memory_bytes, BYTES)}")


def _critical(run: ServedRequest) -> Node:
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

