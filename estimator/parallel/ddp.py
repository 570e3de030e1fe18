"""DDP and ZeroRedundancyOptimizer: the buckets of gradients, and whose optimizer state a rank keeps.

Sources: torch/csrc/distributed/c10d/reducer.cpp; torch/distributed/optim/zero_redundancy_optimizer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from heapq import heapreplace
from typing import Any

from estimator.families.base import Architecture
from estimator.optimizers import Trained
from estimator.parallel.order import in_order, one_of
from estimator.same import Same
from estimator.stack.blocks import block_bytes
from estimator.trace import value_of

FIRST_BUCKET = 1024 * 1024  # reducer.hpp: kDefaultFirstBucketBytes
BUCKET = 25 * 1024 * 1024  # DistributedDataParallel(bucket_cap_mb=25)


def own_tensors(trained: Sequence[Trained], over: Any) -> list[Trained]:
    """The tensors whose state the fullest rank keeps: whole ones, dealt largest first to the emptiest rank.

    Source: zero_redundancy_optimizer.py, _partition_parameters.
    """
    mine: dict[Trained, int] = {}
    sizes = tuple((int(value_of(t.n)), int(value_of(t.times))) for t in trained)
    for i, times in _dealt(sizes, int(value_of(over))):
        one = one_of(trained[i])
        mine[one] = mine.get(one, 0) + times
    return [Trained(t.shape, t.width, times, t.matrix) for t, times in mine.items()]


@lru_cache(maxsize=64)
def _dealt(sizes: tuple[tuple[int, int], ...], over: int) -> tuple[tuple[int, int], ...]:
    """(which of the sizes, how often) of the fullest of ``over`` ranks; sizes: elements, and how many are so large."""
    tensors = [x for i, (n, times) in enumerate(sizes) for x in [(n, i)] * times]
    tensors.sort(key=lambda t: t[0], reverse=True)
    ranks = [(0, i) for i in range(max(1, min(over, len(tensors))))]  # further ranks get none
    dealt: dict[int, dict[int, int]] = {}
    for n, i in tensors:
        size, rank = ranks[0]
        heapreplace(ranks, (size + n, rank))
        mine = dealt.setdefault(rank, {})
        mine[i] = mine.get(i, 0) + 1
    fullest = max(ranks, key=lambda r: (r[0], -r[1]))[1]
    return tuple(dealt.get(fullest, {}).items())


def bucket_bytes(arch: Architecture, trained: Sequence[Trained], full: bool = True) -> Any:
    """DDP's gradient buckets: tensors in the order their gradients arrive, 1 MiB first, then 25 MiB.

    Source: reducer.cpp, compute_bucket_assignment_by_size and rebuild_buckets. The gradients arrive last layer first.
    """
    return _buckets(Same(arch), tuple(trained), full)


@lru_cache(maxsize=64)
def _buckets(same: Same[Architecture], trained: tuple[Trained, ...], full: bool) -> Any:
    total: Any = 0
    size, cap = 0, FIRST_BUCKET
    for t in reversed(in_order(same.it, trained, full)):
        size += int(value_of(t.n)) * t.width
        if size >= cap:
            total, size, cap = total + block_bytes(size), 0, BUCKET
    return total + block_bytes(size)
