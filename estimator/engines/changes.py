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


def _changes(asked: ServerAsked, rank: ServedRank) -> Iterator[Change]:
    """The changes that apply, those first that cost the user least."""
    q, pool = asked.question, rank.pool
    if asked.kv_bits == BITS:
        yield Change("--kv-dtype fp8", {"kv_dtype": "fp8"}, "a cache in 8 bits")
    if asked.store.scheme == "none":
        yield Change("--quantization fp8", {"quantization": "fp8"}, "8-bit weights")
        yield Change("--quantization awq", {"quantization": "awq"}, "4-bit weights")
    held = 0 if pool is None or asked.batch == 1 else int(pool.concurrency(asked.context, True)) * asked.data
    fewer = Change(f"--batch-size {held}", {"batch_size": str(held)}, f"{held:,} at once, the rest waits")
    if 2 * held >= asked.batch:
        yield fewer
    if pool is not None and asked.batch == 1:
        most = pool.longest(asked.context)
        if most > 1 and q.new_tokens is None:
            fields = {"seq_len": str(most), "max_model_len": str(most)}
            yield Change(f"--max-model-len {most}", fields, "shorter requests")
    for n in DEGREES:
        if n > asked.tensor and asked.pipeline == 1:
            again = f"{n * asked.data} GPUs"
            yield Change(f"--tensor-parallel {n}", {"tensor_parallel": str(n), "gpus": "1"}, again)
    if 0 < 2 * held < asked.batch:
        yield fewer


def advice(server: Server, asked: ServerAsked, rank: ServedRank, found: Fit) -> tuple[Table, str]:
    """(the changes as a table, the best one in words) for what does not surely fit."""
    rows: list[Row] = []
    best = ""
    need = int(value_of(found.need.best))
    enough = False
    for change in _changes(asked, rank):
        got = None if enough and "tensor_parallel" in change.fields else _tried(server, asked, change.fields)
        if got is None:
            continue
        now = int(value_of(got.need.best))
        if got.answer == NO and now >= need:
            continue
        if got.answer == YES and not best:
            best = f" With {change.flags} it needs {human(now, BYTES)} of {human(got.have, BYTES)}."
        rows.append(row_of(change, now, max(0, need - now), got.answer))
        if got.answer == YES and "tensor_parallel" in change.fields:
            enough = True
    larger = None if asked.spec is None else _larger(server, asked)
    if larger is not None:
        rows.append(card_row(larger, "a larger card"))
    rows.sort(key=lambda row: row[3] == NO)
    if not best:
        best = " No single change makes it fit." if larger is None else f" A larger card holds it: {larger}."
    return table_of(rows[:SHOWN]), best


def _tried(server: Server, asked: ServerAsked, fields: dict[str, Any]) -> Fit | None:
    """The fit of the question with these fields; None where it is refused."""
    known = {k: v for k, v in fields.items() if hasattr(asked.question, k)}
    try:
        other = server.read(replace(asked.question, **known))
        return fit(other, server.plan(other))
    except InputError:
        return None


def _larger(server: Server, asked: ServerAsked) -> str | None:
    """The smallest card of the vendor that surely holds it, rented ones first."""
    assert asked.spec is not None
    larger = presets.larger(asked.spec.vendor, asked.spec.memory_bytes)
    for card in sorted(larger, key=lambda c: (not c.prices, c.memory_bytes)):
        found = _tried(server, asked, {"gpu": card.id, "gpu_memory": None})
        if found is not None and found.answer == YES:
            return card.id
    return None
