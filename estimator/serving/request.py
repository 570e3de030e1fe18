"""One request and what it is compared with: prices, other batches, a draft model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from estimator.card import Range
from estimator.errors import InputError
from estimator.fit import NO, Fit
from estimator.formulas import inference as f
from estimator.kv.layers import cache_bytes
from estimator.models import Model
from estimator.ops import ceil_div
from estimator.records import dataclass
from estimator.report import Cell, Node, Report, Table
from estimator.schemas import GpuSpec
from estimator.serving import setup as plan
from estimator.serving.step import Serving, cache_shards, decode, prefill
from estimator.trace import value_of
from estimator.units import BYTES, RATIO, SECONDS, TOKEN_RATE, TOKENS, USD
from estimator.work.times import Times
from estimator.work.workload import fused_scan_exists

if TYPE_CHECKING:
    from estimator.render.plots import Figure

MOST = 13  # batches of the table: powers of two below 2**13


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request's shape: b sequences, prompts of s tokens, ``new`` generated tokens each; price a GPU and hour."""

    model: Model
    serve: Serving
    spec: GpuSpec
    b: Any
    s: Any
    new: Any
    price: float | None

    def at(self, b: Any) -> tuple[Times, Times]:
        """Prefill and decode step of a batch of b; the decode step in the middle of the generation."""
        return passes(self.serve, b, self.s, self.new)

    def in_numbers(self) -> ServedRequest:
        """The same request with plain numbers for sizes: for what a run that derives does not derive."""
        model = self.model.in_numbers()
        if model is self.model:
            return self
        serve = replace(self.serve, arch=model.described, weights_bytes=value_of(self.serve.weights_bytes))
        return replace(self, model=model, serve=serve, b=value_of(self.b), s=value_of(self.s), new=value_of(self.new))

    def rate(self, first: Any, step: Any, b: Any) -> Any:
        """Generated tokens a second over whole requests: the prefill gives the first token."""
        return b * self.new / (first + (self.new - 1) * step)

    def usd(self, rate: Any) -> Any:
        return None if self.price is None else f.usd_per_million(self.price, self.serve.gpus, rate)


def passes(serve: Serving, b: Any, s: Any, new: Any) -> tuple[Times, Times]:
    """Prefill and a decode step in the middle of ``new`` tokens."""
    two = serve.arch.kind == "encoder-decoder"
    context = (0 if two else s) + new // 2 + (1 if two and value_of(new) < 2 else 0)
    return prefill(serve, b, s), decode(serve, b, context, s if two else 0)


Needs = Callable[[int], Range]  # bytes a GPU of a batch: fit.need of the one peak that the verdict takes too


def batches(run: ServedRequest, have: int, needs: Needs) -> list[tuple[int, Range]]:
    """Powers of two up to the first that does not fit, and the batch asked for, with what each needs."""
    out = {}
    for i in range(MOST):
        out[2**i] = needs(2**i)
        if out[2**i].low > have:
            break
    asked = int(value_of(run.b))
    if asked not in out:
        out[asked] = needs(asked)
    return sorted(out.items())


def curve(run: ServedRequest, asked: tuple[Times, Times], have: int, needs: Needs) -> Table:
    """Latency, throughput and money by batch; asked: the passes of the batch asked for;
    have: the bytes of a GPU; needs: those of a batch."""
    s, new, own = int(value_of(run.s)), int(value_of(run.new)), int(value_of(run.b))
    rows: list[tuple[str | Cell | None, ...]] = []
    for b, needed in batches(run, have, needs):
        first, step = asked if b == own else passes(run.serve, b, s, new)
        t0, t1 = float(value_of(first.total)), float(value_of(step.total))
        rate = b * new / (t0 + (new - 1) * t1)
        fits = Fit(needed, have, run.spec.id).answer
        usd = run.usd(rate)
        rows.append((
            f"{b:,}", Cell(t0, SECONDS), Cell(t1, SECONDS), Cell(rate, RATIO), None if usd is None else Cell(usd, USD),
            step.bound, Cell(needed.best, BYTES), fits,
        ))  # fmt: skip
    columns = ("batch", "prefill", "decode step", "tokens/s", "USD/M tokens", "bound", "memory", "fits")
    return Table("By batch", columns, tuple(rows))


def figure(report: Report) -> Figure:
    """The batch-latency curve of a report's table."""
    from estimator.serving.picture import AtOnce, latency

    table = next(x for x in report.body if isinstance(x, Table) and x.title == "By batch")
    points = [
        AtOnce(int(str(r[0]).replace(",", "")), float(r[3].value), float(r[2].value))
        for r in table.rows
        if isinstance(r[2], Cell) and isinstance(r[3], Cell) and r[-1] != NO
    ]
    note = "beside the points: sequences at once, those that fit"
    return latency("Latency against throughput", points, "generated tokens/s", "ms a decode step", note)


def draft_of(run: ServedRequest, draft: Model, dtype: str) -> Serving:
    """How a draft model is served beside the model, on the same GPUs. InputError where its words are others."""
    own = run.serve
    serve, _ = plan.setup(draft, own.machine.name, own.gpus, dtype, None, None, own.engine, own.graph)
    if int(value_of(draft.architecture.vocab)) != int(value_of(run.model.architecture.vocab)):
        raise InputError(f"--draft-model {draft.name}: its vocabulary is not {run.model.name}'s")
    return serve


def drafted_bytes(run: ServedRequest, serve: Serving, b: int) -> tuple[int, int]:
    """Bytes a GPU of a draft model's weights, and of its cache for ``b`` sequences; a pass of it needs less than one of
    the model and runs at another time."""
    tokens = int(value_of(run.s + run.new))
    cache = cache_bytes(serve.arch, b, tokens, 0, serve.kv_bits)
    weights = ceil_div(serve.weights_bytes, serve.gpus)
    return int(value_of(weights)), int(value_of(ceil_div(cache, int(value_of(cache_shards(serve))))))


def speculative(
    run: ServedRequest, draft: Model, serve: Serving, step: Times, alpha: float, gamma: int
) -> tuple[Node, list[str]]:
    """Speculative decoding with a draft model on the same GPUs (Leviathan et al. 2023)."""
    from estimator.formulas.decode import expected_tokens

    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha must be a probability between 0 and 1, got {alpha:g}")
    if not 1 <= gamma <= 1000:
        raise InputError(f"--gamma must be between 1 and 1000 drafted tokens, got {gamma}")
    weights, cache = drafted_bytes(run, serve, int(value_of(run.b)))
    context = run.s + run.new // 2
    small, verify = decode(serve, run.b, context).total, decode(run.serve, run.b, context, drafted=gamma).total
    tokens = expected_tokens(alpha, gamma) if alpha < 1 else gamma + 1
    rows = [
        Node(
            "speculative.expected_tokens",
            "Tokens a pass",
            tokens,
            TOKENS,
            formula=expected_tokens if alpha < 1 else None,
        ),
        Node("speculative.draft_seconds", f"A draft step of {draft.name}", small, SECONDS),
        Node("speculative.verify_seconds", f"Verifying {gamma} drafts and one more token", verify, SECONDS),
        Node(
            "speculative.speedup",
            "Speed-up of decoding",
            f.speculative_gain(tokens, gamma, small, verify, step.total),
            RATIO,
            formula=f.speculative_gain,
        ),
        Node("speculative.tokens_per_second", "Decoding alone", run.b * tokens / (gamma * small + verify), TOKEN_RATE),
        Node("draft_weights_bytes", f"Weights of {draft.name}", weights, BYTES),
        Node("draft_kv_cache_bytes", "Its KV cache after the last token", cache, BYTES),
    ]
    return Node.group(f"Speculative decoding: alpha {alpha:g}, {gamma} drafts", rows), [
        f"each draft token is accepted with probability {alpha:g}, independently"
    ]


def range_said(serve: Serving) -> list[str]:
    out = [
        "low: fused kernels at the same ceilings; high: the slowest measured rate of each kind, "
        "and a busy host launches every kernel"
    ]
    if serve.arch.state_spaces:
        fused = serve.fused or fused_scan_exists(serve.arch)
        out.append(
            "state-space layers run their fused kernels (mamba_ssm, causal_conv1d), not the torch path"
            if fused else "the recurrence runs token by token, as transformers has no kernel for it"
        )
    return out
