"""The short answers of the serving engines: the rows that people ask first; ``--detail`` has the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from estimator.changes import helping
from estimator.engines import answers
from estimator.engines.asked import ServerAsked
from estimator.engines.rank import ServedRank
from estimator.report import Node, Table
from estimator.trace import value_of
from estimator.units import human

CHANGES = 2
SPEED = ("ttft_seconds", "loaded_ttft_seconds", "itl_seconds", "tokens_per_second")
RATE = ("rate.sequences", "rate.utilisation", "rate.ttft_seconds.p50", "rate.ttft_seconds.p99", "rate.itl_seconds",
        "rate.itl_seconds.p99", "rate.request_seconds", "rate.usd_per_million_tokens", "rate.most")  # fmt: skip
MONEY = ("usd_per_million_tokens", "usd_per_million_input_tokens", "usd_per_million_output_tokens")
DRAFTED = ("speculative.speedup", "speculative.itl_seconds", "speculative.tokens_per_second")
HELD = ("weights_bytes", "pool_bytes", "max_batch")
WORDS = {  # of rows that stand under a heading in the long form
    "rate.ttft_seconds.p50": "First token, median", "rate.ttft_seconds.p99": "99 of 100 first tokens come within",
    "rate.itl_seconds.p99": "99 of 100 gaps are shorter than", "usd_per_million_input_tokens": "a million of input",
    "usd_per_million_output_tokens": "a million of output", "rate.most": "Most requests a second",
    "speculative.speedup": "Speed-up of decoding by drafts", "speculative.itl_seconds": "Between tokens, with drafts",
    "speculative.tokens_per_second": "Generated tokens a second, with drafts",
}  # fmt: skip


def short(nodes: Iterable[Node]) -> Node:
    """The nodes as rows without children and keys; a range stands beside its value."""
    return Node.group("", [n._replace(key="", label=WORDS.get(n.key, n.label), children=(), how="") for n in nodes])


def keyed(body: Iterable[Any], keys: Iterable[str]) -> Node:
    """The quantities of a report by their keys, in this order, with their ranges; none that is 0 or absent."""
    found = {n.key: n for part in body if isinstance(part, Node) for n in part.walk() if n.key}
    return short(_with_range(found[k], found) for k in keys if k in found and found[k].value)


def of_memory(asked: ServerAsked, rank: ServedRank, changes: Table | None) -> tuple[Node | Table, ...]:
    """The brief of ``memory`` and ``kvcache``: the budget, the pool, what it holds."""
    pool = answers.pool(asked, rank).children
    steady = {n.key: n.value for n in pool}
    same = steady.get("max_concurrency") == steady.get("steady_concurrency")
    left_out = {"kv_cache_bytes", "kv_blocks", *(("steady_concurrency",) if same else ())}
    empty = rank.pool is not None and not rank.pool.blocks
    said = {"budget_bytes", *(("pool_bytes",) if empty else ())}  # in the verdict, or below nothing
    rows = [n for n in answers.budget(asked, rank).children if n.key not in said]
    rows += [n for n in pool if n.key not in left_out and (n.value or not empty)]
    return (short(rows), *_few(changes))


def of_speed(body: Iterable[Any], changes: Table | None) -> tuple[Node | Table, ...]:
    """The brief of ``infer``: latencies with their ranges, rates, money, what fits."""
    body = list(body)
    rate = any(n.key == RATE[-1] for part in body if isinstance(part, Node) for n in part.walk())
    money, held = (MONEY, HELD) if changes is None else (MONEY[:1], HELD[1:])
    first = (SPEED[0], *RATE) if rate else (*SPEED, *money)
    return (keyed(body, (*first, *DRAFTED, *held)), *_few(changes))


def _with_range(n: Node, found: dict[str, Node]) -> Node:
    low, high = found.get(f"{n.key}.low"), found.get(f"{n.key}.high")
    if low is None or high is None or n.unit is None:
        return n
    return n._replace(note=f"{human(value_of(low.value), n.unit)} to {human(value_of(high.value), n.unit)}")


def _few(changes: Table | None) -> tuple[Table, ...]:
    """Of the changes those that help, and a few."""
    return () if changes is None else (helping(changes, CHANGES),)
