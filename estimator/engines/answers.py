"""The report of an engine's memory: the budget, the pool, what it holds, and whether a request fits."""

from __future__ import annotations

from typing import Any

from estimator.card import Range
from estimator.engines.asked import ServerAsked
from estimator.engines.lettered import (
    ACTIVATION,
    BESIDE,
    MEANT,
    a_token,
    counted,
    in_blocks,
    is_letter,
    quotient,
    stated,
    times_of,
)
from estimator.engines.pool import SLIDING, STATE, cached, rank_heads
from estimator.engines.rank import ServedRank
from estimator.engines.weights import blocks
from estimator.fit import Fit
from estimator.formula import Citation
from estimator.ops import ceil_div
from estimator.report import Node, Report, Table
from estimator.units import BYTES, COUNT, RATIO, TOKENS

PAGED = Citation("Kwon et al. 2023, PagedAttention, arXiv 2309.06180")
TOKENS_OF_LENGTH = (0, 20, 2)  # since then vLLM prints the tokens of as many longest requests as fit (0.20.0 does not)


def log_tokens(asked: ServerAsked, rank: ServedRank) -> Any:
    """Tokens of the pool as the engine's log counts them."""
    pool = rank.pool
    assert pool is not None
    if asked.engine == "vllm" and asked.at_least(*TOKENS_OF_LENGTH):
        return pool.blocks * asked.length // pool.request(asked.length)
    return pool.blocks // pool.groups * pool.tokens * pool.dealt


# what an engine leaves for activations without a trial run
ROOM = {"sglang": "Left by the static share, for activations and graphs"}


def budget(asked: ServerAsked, rank: ServedRank) -> Node:
    """The parts of what is taken on one GPU."""
    drawn = rank.graphs
    rows = [
        Node(
            "weights_bytes", "Weights of a rank", rank.weights, BYTES,
            working=counted(lambda: blocks(asked, rank.stage), rank.weights),
        ),
        Node(
            "activation_bytes", ROOM.get(asked.engine, "Activations at the peak of the start's trial run"),
            rank.activation, BYTES,
            working=stated(MEANT[ACTIVATION] if is_letter(rank.activation) else "what the static share leaves"),
        ),
        Node("other_bytes", "Outside the allocator", rank.other, BYTES, working=stated(MEANT[BESIDE])),
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
        takes = stated(f"{'all' if is_letter(rank.budget) else 'its share of all'} that the driver reports")
        rows.insert(0, Node("budget_bytes", "What the engine allows itself", rank.budget, BYTES, working=takes))
    if rank.pool_bytes is not None:
        left = stated("what the engine leaves for the cache", rank.left)
        rows.append(Node("pool_bytes", "Pool of blocks", max(0, rank.pool_bytes), BYTES, working=left))
    return Node.group("A GPU", rows)


def pool(asked: ServerAsked, rank: ServedRank) -> Node:
    """What the pool holds: by the log's accounting, and in steady decode where that differs."""
    p = rank.pool
    each = a_token(asked, ((n, rank_heads(asked, a), a) for a, n in cached(asked, rank.layers)))
    rows = [Node("bytes_per_token", "Cache bytes a token", rank.token_bytes, BYTES, working=each)]
    if p is None:
        return Node.group("The cache", rows)
    length = asked.length
    if all(kind.name == STATE for kind, *_ in p.tables):
        rows += [
            Node("kv_blocks", "Recurrent states", p.blocks, COUNT),
            Node("max_concurrency", "Requests at once, of any length", p.concurrency(length), RATIO),
        ]
        return Node.group("The pool", rows)
    one, steady, held = (p.request(n, s) for n, s in ((length, False), (length, True), (asked.context, True)))
    rows += [
        Node(
            "kv_blocks", f"Blocks of {p.tokens:,} token{'s' if p.tokens > 1 else ''}", p.blocks, COUNT,
            working=in_blocks(max(0, rank.pool_bytes), p.block_bytes, p.blocks, p.rest),
        ),
        Node(
            "kv_tokens", "Tokens, as its log counts them", log_tokens(asked, rank), TOKENS,
            working=times_of(p.blocks, p.tokens * p.dealt, log_tokens(asked, rank), "the tokens of each block"),
        ),
        Node(
            "max_concurrency", f"Requests of {length:,} tokens at once (log)", p.concurrency(length), RATIO,
            working=quotient(p.blocks, one, f"a request takes {one:,} blocks"),
        ),
        Node(
            "steady_concurrency", "The same in steady decode", p.concurrency(length, steady=True), RATIO,
            working=quotient(p.blocks, steady, f"a request takes {steady:,} blocks"),
        ),
        Node("max_batch", f"Sequences of {asked.context:,} tokens", p.blocks // held, COUNT,
             working=quotient(p.blocks, held, f"a sequence takes {held:,} blocks; whole ones", p.blocks // held)),
        Node("max_length", "Longest request", p.longest(max(length, 1)), TOKENS),
        Node(
            "kv_cache_bytes", f"Cache of {asked.batch:,} x {asked.context:,} tokens",
            asked.batch * held * p.block_bytes, BYTES,
            working=stated(f"{asked.batch:,} x {held:,} blocks, as many bytes each as its layers keep"),
        ),
    ]  # fmt: skip
    return Node.group("The pool", rows)


def fit(asked: ServerAsked, rank: ServedRank, most: int) -> Fit | None:
    """Whether what is asked about fits: its blocks in a given pool, or with weights and activations in the budget.

    most: sequences that a replica runs at once; those beyond them wait and hold nothing.

    One sequence is admitted with a whole step of tokens; several are counted as they decode. A need's ends differ by
    what CUDA graphs take more or less than their best estimate, where the engine counts them.
    """
    p = rank.pool
    if p is None and rank.budget is None:
        return None
    each = min(ceil_div(asked.batch, asked.data), most)  # sequences of a replica
    held = 0 if p is None else each * p.request(asked.context, steady=each > 1) * p.block_bytes  # none of an encoder
    if asked.pool is not None:
        return Fit(Range(held, held, held), asked.pool, "the pool")
    assert rank.budget is not None
    need, drawn = rank.used + held, rank.graphs
    less, more = (drawn.best - drawn.low, drawn.high - drawn.best) if rank.reserved else (0, 0)
    return Fit(Range(need - less, need, need + more), int(rank.budget), f"{asked.card}'s budget")


def fit_rows(found: Fit) -> Node:
    """The rows of a fit."""
    need = found.need
    rows = [
        Node(
            "need_bytes", "Weights, activations and its blocks", need.best, BYTES,
            (Node("need_bytes.low", "low", need.low, BYTES), Node("need_bytes.high", "high", need.high, BYTES)),
            working=stated("what is taken beside the pool, and the blocks of the sequences asked about", need.best),
        ),
        Node("have_bytes", f"What {found.card} has", found.have, BYTES),
        Node("margin_bytes", "Left over" if found.margin >= 0 else "Missing", found.margin, BYTES),
    ]  # fmt: skip
    return Node.group("Fits", rows, note=found.answer)


def requests(asked: ServerAsked, most: int) -> str:
    """``1 request of 8,192 tokens``, or how many run at once of those that are asked about; most: of :func:`fit`."""
    n, at_once = asked.batch, most * asked.data
    words = f"{n:,} request{'' if n == 1 else 's'} of {asked.context:,} tokens"
    return words if n <= at_once else f"{at_once:,} at once of {words}"


def report(command: str, asked: ServerAsked, rank: ServedRank, most: int, found: Fit | None, changes: Table | None,
           best: str) -> Report:  # fmt: skip
    """The answer of ``memory`` and ``kvcache``; most: of :func:`fit`; changes, best: what would make it fit, where it
    does not surely."""
    body: list[Any] = [budget(asked, rank), pool(asked, rank)]
    facts: dict[str, Any] = {}
    verdict = ""
    if found is not None:
        body.append(fit_rows(found))
        facts["fits"] = found.answer
        verdict = found.sentence(requests(asked, most) + " ") + best + asked.but
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
        tuple(asked.model.notes), verdict=verdict, letters=MEANT if asked.derives else {},
    )  # fmt: skip


def said(asked: ServerAsked, rank: ServedRank) -> list[str]:
    """What the two truths are, where they differ."""
    out = []
    if rank.pool is not None and any(kind.name == SLIDING for kind, *_ in rank.pool.tables):
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
