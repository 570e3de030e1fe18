"""Serving: latency, throughput, memory and money of generation, from a roofline over the list of products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estimator.errors import DoesNotFit, InputError
from estimator.families.base import MoE
from estimator.formula import Citation
from estimator.formulas import inference as f
from estimator.formulas.params import active_params, total_params
from estimator.models import Model
from estimator.presets import load_gpu
from estimator.report import Cell, Node, Report, Table, Text
from estimator.schemas import GpuSpec
from estimator.serving import setup as plan
from estimator.serving.step import LAUNCH, Serving, Step, decode, prefill
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE, BYTES, PERCENT, RATIO, SECONDS, TOKEN_RATE, TOKENS, USD, human

DEFAULT_PROMPT, DEFAULT_NEW = 2048, 256
LABELS = {
    "compute": "Products and attention, bound by compute",
    "memory": "Weights and activations, bound by memory",
    "cache": "Reading the KV cache",
    "launch": "Starting and ending kernels",
    "communication": "All-reduces between GPUs",
}
ROOFLINE = Citation("Williams, Waterman and Patterson 2009, Roofline; Austin et al. 2025, How to Scale Your Model")


@dataclass(frozen=True, slots=True)
class Run:
    """One request's shape: b sequences, prompts of s tokens, ``new`` generated tokens each; price a GPU and hour."""

    model: Model
    serve: Serving
    spec: GpuSpec
    b: Any
    s: Any
    new: Any
    price: float | None

    def at(self, b: Any) -> tuple[Step, Step]:
        """Prefill and decode step of a batch of b; the decode step in the middle of the generation."""
        return passes(self.serve, b, self.s, self.new)

    def rate(self, first: Any, step: Any, b: Any) -> Any:
        """Generated tokens a second over whole requests: the prefill gives the first token."""
        return b * self.new / (first + (self.new - 1) * step)

    def usd(self, rate: Any) -> Any:
        return None if self.price is None else f.usd_per_million(self.price, self.serve.gpus, rate)


def passes(serve: Serving, b: Any, s: Any, new: Any) -> tuple[Step, Step]:
    """Prefill and a decode step in the middle of ``new`` tokens."""
    two = serve.arch.kind == "encoder-decoder"
    context = (0 if two else s) + new // 2 + (1 if two and value_of(new) < 2 else 0)
    return prefill(serve, b, s), decode(serve, b, context, s if two else 0)


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
        drafted, more = _speculative(run, draft_model, step, dtype, alpha, gamma)
        body.insert(3, drafted)
        assumed += more
    notes = [*model.notes, *_beyond(serve, s + new)]
    need = sum(value_of(x) for x in held[:3]) + context_bytes(spec)
    fits = bool(need <= spec.memory_bytes)
    if check_fit and not fits:
        raise DoesNotFit(f"{model.name} needs {human(need, BYTES)} a GPU; {spec.id} has {human(spec.memory_bytes, BYTES)}")
    facts = {"bound": step.bound, "prefill.bound": first.bound, "fits": fits}
    title = f"Serving {model.name}: {value_of(b):,} x ({value_of(s):,} + {value_of(new):,}) tokens in {dtype} on {n_gpus} x {spec.id}"
    inputs = {
        "model": model.name, "batch_size": b, "seq_len": s, "new_tokens": new, "gpu": gpu, "gpus": n_gpus, "dtype": dtype,
        "kv_dtype": kv_dtype, "quantization": quantization, "engine": engine, "price": cost,
    }  # fmt: skip
    assumptions = (*said, *assumed, *held[3], *priced, *_range_said(serve), *notes)
    return Report("infer", title, inputs, tuple(body), facts, assumptions, (ROOFLINE,), tuple(notes))


def price_of(spec: GpuSpec, price: float | None) -> tuple[float | None, list[str]]:
    """USD a GPU and hour: as given, or the median of the preset's dated prices."""
    if price is not None:
        if not (price >= 0 and price < 1e6):
            raise InputError(f"--price must be >= 0 USD a GPU and hour, got {price:g}")
        return price, []
    known = sorted(p.usd_per_hour for p in spec.prices)
    if not known:
        return None, [f"{spec.id}: no price known; add --price USD_PER_HOUR for money"]
    middle = known[len(known) // 2] if len(known) % 2 else (known[len(known) // 2 - 1] + known[len(known) // 2]) / 2
    return middle, [f"--price not given: ${middle:.2f} an hour, the median of {len(known)} dated prices from ${known[0]:.2f} to ${known[-1]:.2f}"]


def context_bytes(spec: GpuSpec) -> int:
    """Bytes of the CUDA context where it was measured."""
    return spec.measured.context_bytes if spec.measured else 0


def _times(key: str, label: str, step: Step, low: Step, high: Step) -> Node:
    """A pass: what it consists of, and beside it the ideal roofline and the bounds."""
    parts = [Node("", LABELS[name], value, SECONDS) for name, value in step.seconds.items() if value_of(value) > 0]
    parts.sort(key=lambda n: -float(value_of(n.value)))
    if value_of(step.host_seconds) > value_of(step.device_seconds):
        whole = Node.max(key, label, [Node.sum("", "The GPU's work", parts), Node("", "The host's launches", step.host_seconds, SECONDS)])
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


def _rates(run: Run, first: Step, step: Step, low: tuple[Step, Step], high: tuple[Step, Step]) -> Node:
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
            Node("usd_per_million_tokens", "A million generated tokens, prompts included", usd, USD, formula=f.usd_per_million),
            Node("usd_per_million_tokens.low", "low", min(float(value_of(usd)), fast), USD),
            Node("usd_per_million_tokens.high", "high", max(float(value_of(usd)), slow), USD),
            Node("usd_per_million_prompt_tokens", "A million prompt tokens, prefill alone", run.usd(b * run.s / first.total), USD),
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
        rows.append(Node("critical_batch.experts", "of the routed experts", f.critical_batch_experts(best, E, k), TOKENS))
    return Node.group("Critical batch: above it the weights' products are bound by compute", rows)


def batches(run: Run) -> list[int]:
    """Powers of two up to the first that does not fit, and the batch asked for."""
    room = run.spec.memory_bytes - context_bytes(run.spec)
    out = []
    for i in range(13):
        out.append(2**i)
        if sum(int(value_of(x)) for x in plan.memory(run.serve, run.model, 2**i, run.s, run.new)[:3]) > room:
            break
    return sorted({*out, int(value_of(run.b))})


def curve(run: Run) -> Table:
    """Latency, throughput and money by batch."""
    room = run.spec.memory_bytes - context_bytes(run.spec)
    s, new = int(value_of(run.s)), int(value_of(run.new))
    rows: list[tuple[str | Cell | None, ...]] = []
    for b in batches(run):
        first, step = passes(run.serve, b, s, new)
        t0, t1 = float(value_of(first.total)), float(value_of(step.total))
        rate = b * new / (t0 + (new - 1) * t1)
        need = sum(int(value_of(x)) for x in plan.memory(run.serve, run.model, b, s, new)[:3])
        usd = run.usd(rate)
        rows.append((
            f"{b:,}", Cell(t0, SECONDS), Cell(t1, SECONDS), Cell(rate, RATIO), None if usd is None else Cell(usd, USD),
            step.bound, Cell(need, BYTES), "yes" if need <= room else "no",
        ))  # fmt: skip
    columns = ("batch", "prefill", "decode step", "tokens/s", "USD/M tokens", "bound", "memory", "fits")
    return Table("By batch", columns, tuple(rows))


def plot(run_report: Report) -> Text:
    """The batch-latency curve of a report's table: seconds a token against tokens a second."""
    from estimator.render.plots import Axis, Figure, Series, terminal

    table = next(x for x in run_report.body if isinstance(x, Table) and x.title == "By batch")
    points = [(float(r[3].value), 1e3 * float(r[2].value)) for r in table.rows if isinstance(r[2], Cell) and isinstance(r[3], Cell)]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    figure = Figure(
        "Latency against throughput",
        Axis("generated tokens/s", min(xs) / 1.2, max(xs) * 1.2),
        Axis("ms a decode step", min(ys) / 1.2, max(ys) * 1.2),
        (Series("batch, doubling", xs, ys, "line", 0), Series("", xs, ys, "dot", 1)),
    )
    return Text("Latency against throughput, batch by batch", terminal(figure))


def _speculative(run: Run, draft: Model, step: Step, dtype: str, alpha: float, gamma: int) -> tuple[Node, list[str]]:
    """Speculative decoding with a draft model on the same GPUs (Leviathan et al. 2023)."""
    from estimator.formulas.decode import expected_tokens

    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha must be a probability between 0 and 1, got {alpha:g}")
    if not 1 <= gamma <= 1000:
        raise InputError(f"--gamma must be between 1 and 1000 drafted tokens, got {gamma}")
    serve, _ = plan.setup(draft, run.serve.machine.name, run.serve.gpus, dtype, None, "none", run.serve.engine, run.serve.graph)
    if int(value_of(draft.architecture.vocab)) != int(value_of(run.model.architecture.vocab)):
        raise InputError(f"--draft-model {draft.name}: its vocabulary is not {run.model.name}'s")
    context = run.s + run.new // 2
    small, verify = decode(serve, run.b, context).total, decode(run.serve, run.b, context, drafted=gamma).total
    tokens = expected_tokens(alpha, gamma) if alpha < 1 else gamma + 1
    rows = [
        Node("speculative.expected_tokens", "Tokens a pass", tokens, TOKENS, formula=expected_tokens if alpha < 1 else None),
        Node("speculative.draft_seconds", f"A draft step of {draft.name}", small, SECONDS),
        Node("speculative.verify_seconds", f"Verifying {gamma} drafts and one more token", verify, SECONDS),
        Node("speculative.speedup", "Speed-up of decoding", f.speculative_gain(tokens, gamma, small, verify, step.total), RATIO, formula=f.speculative_gain),
        Node("speculative.tokens_per_second", "Decoding alone", run.b * tokens / (gamma * small + verify), TOKEN_RATE),
    ]
    return Node.group(f"Speculative decoding: alpha {alpha:g}, {gamma} drafts", rows), [
        f"each draft token is accepted with probability {alpha:g}, independently",
        "the draft model's weights and cache are not in the memory below",
    ]


def _beyond(serve: Serving, tokens: Any) -> list[str]:
    most = serve.arch.max_positions
    if most and value_of(tokens) > most and serve.arch.kind != "encoder-decoder":
        return [f"{value_of(tokens):,} tokens exceed the model's max_position_embeddings of {most:,}"]
    return []


def _range_said(serve: Serving) -> list[str]:
    out = ["low: fused kernels at the same ceilings; high: the slowest measured rate of each kind, and the host launches every kernel"]
    if any(not hasattr(g.mixer, "heads") for g in serve.arch.layers):
        out.append("state-space layers run their fused kernels (mamba_ssm, causal_conv1d), not the torch path")
    return out


__all__ = ["LAUNCH", "Run", "infer", "passes", "plot", "price_of", "active_params"]
