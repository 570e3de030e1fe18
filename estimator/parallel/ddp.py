"""DDP and ZeroRedundancyOptimizer: the buckets of gradients, and whose optimizer state a rank keeps.

Sources: torch/csrc/distributed/c10d/reducer.cpp; torch/distributed/optim/zero_redundancy_optimizer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace
from typing import Any

from estimator.families.base import Architecture
from estimator.optimizers import Trained
from estimator.parallel.order import in_order
from estimator.stack.blocks import block_bytes
from estimator.trace import value_of

FIRST_BUCKET = 1024 * 1024  # reducer.hpp: kDefaultFirstBucketBytes
BUCKET = 25 * 1024 * 1024  # DistributedDataParallel(bucket_cap_mb=25)


def own_tensors(trained: Sequence[Trained], over: Any) -> list[Trained]:
    """The tensors whose state the fullest rank keeps: whole ones, dealt largest first to the emptiest rank.

    Source: zero_redundancy_optimizer.py, _partition_parameters.
    """
    tensors = [Trained(t.shape, t.width, 1, t.matrix) for t in trained for _ in range(int(value_of(t.times)))]
    tensors.sort(key=lambda t: value_of(t.n), reverse=True)
    ranks = [(0, i) for i in range(max(1, min(int(value_of(over)), len(tensors))))]  # further ranks get none
    dealt: dict[int, dict[Trained, int]] = {}
    for t in tensors:
        size, rank = ranks[0]
        heapreplace(ranks, (size + int(value_of(t.n)), rank))
        mine = dealt.setdefault(rank, {})
        mine[t] = mine.get(t, 0) + 1
    fullest = max(ranks, key=lambda r: (r[0], -r[1]))[1]
    found = dealt.get(fullest, {}).items()
    return [Trained(t.shape, t.width, times, t.matrix) for t, times in found]


def bucket_bytes(arch: Architecture, trained: Sequence[Trained], full: bool = True) -> Any:
    """DDP's gradient buckets: tensors in the order their gradients arrive, 1 MiB first, then 25 MiB.

    Source: reducer.cpp, compute_bucket_assignment_by_size and rebuild_buckets. The gradients arrive last layer first.
    """
    total: Any = 0
    size, cap = 0, FIRST_BUCKET
    for t in reversed(in_order(arch, trained, full)):
        size += int(value_of(t.n)) * t.width
        if size >= cap:
            total, size, cap = total + block_bytes(size), 0, BUCKET
    return total + block_bytes(size)
