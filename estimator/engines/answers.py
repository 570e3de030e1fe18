"""The report of an engine's memory: the budget, the pool, what it holds, and whether a request fits."""

from __future__ import annotations

from typing import Any

from estimator.card import Range
from estimator.engines.asked import ServerAsked
from estimator.engines.pool import SLIDING, STATE
from estimator.engines.rank import ServedRank
from estimator.fit import Fit
from estimator.formula import Citation
from estimator.ops import ceil_div
from estimator.report import Node, Report, Table
from estimator.units import BYTES, COUNT, RATIO, TOKENS

PAGED = Citation("Kwon et al. 2023, PagedAttention, arXiv 2309.06180")
TOKENS_OF_LENGTH = (0, 20)  # since then vLLM prints the tokens of as many longest requests as fit


def log_tokens(asked: ServerAsked, rank: ServedRank) -> int:
    """Tokens of the pool as the engine's log counts them."""
    pool = rank.pool
    assert pool is not None
    if asked.engine == "vllm" and asked.at_least(*TOKENS_OF_LENGTH):
        return pool.blocks * asked.length // pool.request(asked.length)
    return pool.blocks // pool.groups * pool.tokens * pool.dealt


def budget(rank: ServedRank) -> Node:
    """The parts of what is taken on one GPU."""
    drawn = rank.graphs
    rows = [
        Node("weights_bytes", "Weights of a rank", rank.weights, BYTES),
        Node("activation_bytes", "Activations at the peak of the start's trial run", rank.activation, BYTES),
        Node("other_bytes", "Outside the allocator", rank.other, BYTES),
        Node(
            "graphs_bytes", "CUDA graphs", drawn.best, BYTES,
            (
                Node("graphs_bytes.low", "low", drawn.low, BYTES),
                Node("graphs_bytes.high", "high", drawn.high, BYTES),
            ),
            note="" if rank.reserved else "beside the budget",
        ),
    ]  # fmt: skip
    if rank.budget is not None:
        rows.insert(0, Node("budget_bytes", "What the engine allows itself", rank.budget, BYTES))
    if rank.pool_bytes is not None:
        rows.append(Node("pool_bytes", "Pool of blocks", max(0, rank.pool_bytes), BYTES))
    return Node.group("A GPU", rows)


def pool(asked: ServerAsked, rank: ServedRank) -> Node:
    """What the pool holds: by the log's accounting, and in steady decode where that differs."""
    p = rank.pool
    rows = [Node("bytes_per_token", "Cache bytes a token", rank.token_bytes, BYTES)]
    if p is None:
        return Node.group("The cache", rows)
    length = asked.length
    if all(kind.name == STATE for kind, _ in p.tables):
        rows += [
            Node("kv_blocks", "Recurrent states", p.blocks, COUNT),
            Node("max_concurrency", "Requests at once, of any length", p.concurrency(length), RATIO),
        ]
        return Node.group("The pool", rows)
    rows += [
        Node("kv_blocks", f"Blocks of {p.tokens:,} tokens", p.blocks, COUNT),
        Node("kv_tokens", "Tokens, as its log counts them", log_tokens(asked, rank), TOKENS),
        Node("max_concurrency", f"Requests of {length:,} tokens at once (log)", p.concurrency(length), RATIO),
        Node("steady_concurrency", "The same in steady decode", p.concurrency(length, steady=True), RATIO),
        Node("max_batch", f"Sequences of {asked.context:,} tokens", int(p.concurrency(asked.context, True)), COUNT),
        Node("max_length", "Longest request", p.longest(max(length, 1)), TOKENS),
        Node(
            "kv_cache_bytes", f"Cache of {asked.batch:,} x {asked.context:,} tokens",
            asked.batch * p.request(asked.context, steady=True) * p.block_bytes, BYTES,
        ),
    ]  # fmt: skip
    return Node.group("The pool", rows)


def fit(asked: ServerAsked, rank: ServedRank) -> Fit | None:
    """Whether what is asked about fits: its blocks in a given pool, or with weights and activations in the budget.

    One sequence is admitted with a whole step of tokens; several are counted as they decode. A need's ends differ by
    what CUDA graphs take more or less than their best estimate, where the engine counts them.
    """
    p = rank.pool
    if p is None:
        return None
    each = ceil_div(asked.batch, asked.data)  # sequences of a replica
    blocks = each * p.request(asked.context, steady=each > 1) * p.block_bytes
    if asked.pool is not None:
        return Fit(Range(blocks, blocks, blocks), asked.pool, "the pool")
    assert rank.budget is not None
    need, drawn = rank.used + blocks, rank.graphs
    less, more = (drawn.best - drawn.low, drawn.high - drawn.best) if rank.reserved else (0, 0)
    return Fit(Range(need - less, need, need + more), rank.budget, f"{asked.card}'s budget")


def fit_rows(found: Fit) -> Node:
    """The rows of a fit."""
    need = found.need
    rows = [
        Node(
            "need_bytes", "Weights, activations and its blocks", need.best, BYTES,
            (Node("need_bytes.low", "low", need.low, BYTES), Node("need_bytes.high", "high", need.high, BYTES)),
        ),
        Node("have_bytes", f"What {found.card} has", found.have, BYTES),
        Node("margin_bytes", "Left over" if found.margin >= 0 else "Missing", found.margin, BYTES),
    ]  # fmt: skip
    return Node.group("Fits", rows, note=found.answer)


def requests(n: float, tokens: int) -> str:
    """``1 request of 8,192 tokens``."""
    return f"{n:,.0f} request{'' if n == 1 else 's'} of {tokens:,} tokens"


def report(command: str, asked: ServerAsked, rank: ServedRank, found: Fit | None, changes: Table | None,
           best: str) -> Report:  # fmt: skip
    """The answer of ``memory`` and ``kvcache``; changes, best: what would make it fit, where it does not surely."""
    body: list[Any] = [budget(rank), pool(asked, rank)]
    facts: dict[str, Any] = {}
    verdict = ""
    if found is not None:
        body.append(fit_rows(found))
        facts["fits"], verdict = found.answer, found.sentence(requests(asked.batch, asked.context) + " ") + best
    if changes is not None:
        body.append(changes)
    version = ".".join(map(str, asked.version))
    cut = "".join(f", {n} x {what}" for n, what in (
        (asked.tensor, "tensor"), (asked.pipeline, "pipeline"), (asked.data, "data")) if n > 1)  # fmt: skip
    title = f"{asked.model.name} in {asked.engine} {version} on {asked.card or 'no card'}{cut}"
    inputs = {
        "model": asked.model.name, "engine": asked.engine, "engine_version": version, "gpu": asked.card,
        "max_model_len": asked.length, "dtype": asked.dtype, "quantization": asked.store.scheme,
        "tensor_parallel": asked.tensor, "pipeline_parallel": asked.pipeline,
    }  # fmt: skip
    notes = [*asked.model.notes, *said(asked, rank)]
    return Report(
        command, title, inputs, tuple(body), facts, tuple(dict.fromkeys((*asked.said, *notes))), (PAGED,),
        tuple(asked.model.notes), verdict=verdict,
    )  # fmt: skip


def said(asked: ServerAsked, rank: ServedRank) -> list[str]:
    """What the two truths are, where they differ."""
    out = []
    if rank.pool is not None and any(kind.name == SLIDING for kind, _ in rank.pool.tables):
        out.append(
            "a window layer is admitted with a whole step of tokens beside its window; while it decodes it keeps the "
            "window alone, so more sequences fit than the log says"
        )
    if asked.question.max_loras:
        out.append("--max-loras: adapters of linear layers alone; those of experts, tables and heads are not counted")
    if asked.question.enforce_eager:
        out.append("--enforce-eager: no graphs are kept; what the host then takes to launch kernels is not timed")
    if not rank.reserved and rank.graphs.best:
        out.append("CUDA graphs are captured after the pool is sized: they come on top of the budget")
    return out
