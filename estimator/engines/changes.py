"""What would make an engine hold a request: a cache or weights in fewer bits, less at once, more or larger GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from estimator import presets
from estimator.changes import Change, Row, card_row, row_of, table_of
from estimator.engines.answers import fit
from estimator.engines.asked import ServerAsked
from estimator.engines.rank import ServedRank
from estimator.engines.tiles import dealing_helps
from estimator.engines.vision import said_of
from estimator.errors import InputError
from estimator.fit import NO, YES, Fit
from estimator.report import Table
from estimator.trace import value_of
from estimator.units import BYTES, human

if TYPE_CHECKING:
    from estimator.engines.server import Server

BITS = 16  # of a number that is not stored in fewer
SHOWN = 5
DEGREES = (2, 4, 8)
MORE = "tensor_parallel"  # the field of a change to more GPUs
MOST_USED = 95  # hundredths of a card's memory that an engine is told to use
STEP = 2048  # tokens that a step is told to be at most
STEPS = {"vllm": "max_num_batched_tokens", "sglang": "chunked_prefill_size"}  # an engine's option for them


def _changes(server: Server, asked: ServerAsked, rank: ServedRank) -> Iterator[Change]:
    """The changes that apply, those first that cost the user least."""
    pool = rank.pool
    if (used := _used(asked, rank)) is not None:
        yield Change(f"--gpu-memory-utilization {used}", {"gpu_memory_utilization": used}, "less is left to others")
    if (step := STEPS.get(asked.engine)) is not None and server.sizes(asked)[1] > STEP:
        yield Change(f"--{step.replace('_', '-')} {STEP}", {step: str(STEP)}, "long prompts in more steps")
    if _filmed(server, asked):
        yield Change("--limit-mm-per-prompt video=0", {"limit_mm_per_prompt": "video=0"}, "no videos")
    if asked.kv_bits == BITS:
        yield Change("--kv-dtype fp8", {"kv_dtype": "fp8"}, "a cache in 8 bits")
    if asked.store.scheme == "none":
        yield Change("--quantization fp8", {"quantization": "fp8"}, "8-bit weights")
        yield Change("--quantization awq", {"quantization": "awq"}, "4-bit weights")
    held = 0 if pool is None or asked.batch == 1 else int(pool.concurrency(asked.context, True)) * asked.data
    fewer = Change(f"--batch-size {held}", {"batch_size": str(held)}, f"{held:,} at once, the rest waits")
    if 2 * held >= asked.batch:
        yield fewer
    if (shorter := _shorter(server, asked, rank)) is not None:
        yield shorter
    for n in DEGREES:
        if n > asked.tensor and asked.pipeline == 1:
            yield _more(asked, n)
    if 0 < 2 * held < asked.batch:
        yield fewer


def _used(asked: ServerAsked, rank: ServedRank) -> str | None:
    """The share of the card that vLLM may use, where it is more than it does: what its graphs take beside the budget is
    left out. None where there is no such share."""
    if asked.engine != "vllm" or asked.total is None or rank.budget is None:
        return None
    beside = 0 if value_of(rank.reserved) else int(value_of(rank.graphs.high))
    share = min(MOST_USED, 100 * (asked.total - beside) // asked.total)
    return f"{share / 100:g}" if share * asked.total > 100 * int(value_of(rank.budget)) else None


def _more(asked: ServerAsked, n: int) -> Change:
    """A tensor group of ``n`` GPUs; with whole experts on each where the engine does not load parts of them."""
    flags, fields = f"--tensor-parallel {n}", {"tensor_parallel": str(n), "gpus": "1"}
    if not asked.experts and dealing_helps(asked, n):
        flags += " --expert-parallel"
        fields["expert_parallel"] = "all"
    return Change(flags, fields, f"{n * asked.data} GPUs")


def _filmed(server: Server, asked: ServerAsked) -> bool:
    """Whether the trial run is of a video, which a shorter longest request makes shorter too."""
    return "limit_mm_per_prompt" in server.own and bool(said_of(asked))


def _shorter(server: Server, asked: ServerAsked, rank: ServedRank) -> Change | None:
    """The longest single request that the pool holds; None where it holds none, or new tokens were asked for."""
    if asked.question.new_tokens is not None or asked.batch != 1:
        return None
    most = rank.pool.longest(asked.context) if rank.pool is not None else 0
    if _filmed(server, asked):
        most = _longest(server, asked, most)
    return None if most <= 1 else Change(f"--max-model-len {most}", _of_length(most), "shorter requests")


def _of_length(n: int) -> dict[str, Any]:
    return {"seq_len": str(n), "max_model_len": str(n)}


def _longest(server: Server, asked: ServerAsked, least: int) -> int:
    """The longest request that surely fits where it is the longest that the server takes; least: one that does."""
    low, high = least, asked.context
    while high - low > 1:
        middle = (low + high) // 2
        found = _tried(server, asked, _of_length(middle))
        low, high = (middle, high) if found is not None and found.answer == YES else (low, middle)
    return low


def advice(server: Server, asked: ServerAsked, rank: ServedRank, found: Fit) -> tuple[Table, str]:
    """(the changes as a table, the best one in words) for what does not surely fit."""
    need = int(value_of(found.need.best))
    tried: list[tuple[Change, Fit]] = []
    enough = False
    for change in _changes(server, asked, rank):
        got = None if enough and MORE in change.fields else _tried(server, asked, change.fields)
        if got is not None and (got.answer != NO or int(value_of(got.need.best)) < need):
            tried.append((change, got))
            enough = enough or (got.answer == YES and MORE in change.fields)
    if not any(got.answer == YES and MORE not in change.fields for change, got in tried):
        pairs = (_and_shorter(server, asked, change) for change, _ in tried if "quantization" in change.fields)
        tried = [*filter(None, pairs), *tried]
    surely = [(change, got) for change, got in tried if got.answer == YES]
    rows: list[Row] = []
    for change, got in tried:
        now = int(value_of(got.need.best))
        rows.append(row_of(change, now, need - now, got.answer))
    larger = None if asked.spec is None else _larger(server, asked)
    if larger is not None:
        rows.append(card_row(larger, "a larger card"))
    rows.sort(key=lambda row: row[3] == NO)
    best = " No single change makes it fit." if larger is None else f" A larger card holds it: {larger}."
    if surely:
        change, got = surely[0]
        now = int(value_of(got.need.best))
        best = f" With {change.flags}: {human(now, BYTES)} of {human(got.have, BYTES)}."
    return table_of(rows[:SHOWN]), best


def _and_shorter(server: Server, asked: ServerAsked, change: Change) -> tuple[Change, Fit] | None:
    """Fewer bits together with the longest request that surely fits then; None where none does."""
    planned = _planned(server, asked, change.fields)
    shorter = None if planned is None else _shorter(server, *planned)
    if shorter is None:
        return None
    fields = change.fields | shorter.fields
    found = _tried(server, asked, fields)
    if found is None or found.answer != YES:
        return None
    return Change(f"{change.flags} {shorter.flags}", fields, f"{change.price}; {shorter.price}"), found


def _planned(server: Server, asked: ServerAsked, fields: dict[str, Any]) -> tuple[ServerAsked, ServedRank] | None:
    """The question with these fields and its rank; None where it is refused."""
    known = {k: v for k, v in fields.items() if hasattr(asked.question, k)}
    try:
        other = server.read(replace(asked.question, **known))
        return other, server.plan(other)
    except InputError:
        return None


def _tried(server: Server, asked: ServerAsked, fields: dict[str, Any]) -> Fit | None:
    """The fit of the question with these fields; None where it is refused."""
    planned = _planned(server, asked, fields)
    return None if planned is None else fit(*planned, server.sizes(planned[0])[0])


def _larger(server: Server, asked: ServerAsked) -> str | None:
    """The smallest card of the vendor that surely holds it, rented ones first."""
    assert asked.spec is not None
    larger = presets.larger(asked.spec.vendor, asked.spec.memory_bytes)
    for card in sorted(larger, key=lambda c: (not c.prices, c.memory_bytes)):
        found = _tried(server, asked, {"gpu": card.id, "gpu_memory": None})
        if found is not None and found.answer == YES:
            return card.id
    return None
