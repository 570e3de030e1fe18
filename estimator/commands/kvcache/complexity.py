"""Generating T tokens after a prompt of m, without and with a cache: multiply-adds, exactly, and in big O."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Architecture
from estimator.formulas.kvcache import cached_score_macs, cached_weight_macs, uncached_score_macs, uncached_weight_macs
from estimator.report import Node, Table
from estimator.work.product import HEAD
from estimator.work.run import products
from estimator.work.workload import PassSizes

# (what, without a cache, with one); the prompt is taken as given, T grows
BIG_O = (
    ("attention scores and values", "O(L d T^3)", "O(L d T^2)"),
    ("with the projections and the MLP", "O(L (d^2 T^2 + d T^3))", "O(L (d^2 T + d T^2))"),
    ("additional memory", "O(1)", "O(L d (m + T))"),
)
FACTS = {
    "complexity.scores_without": BIG_O[0][1], "complexity.scores_with": BIG_O[0][2],
    "complexity.time_without": BIG_O[1][1], "complexity.time_with": BIG_O[1][2],
    "complexity.memory_without": BIG_O[2][1], "complexity.memory_with": BIG_O[2][2],
}  # fmt: skip


def per_pair(arch: Architecture) -> Any:
    """Multiply-adds of one query-key pair over all layers: one score and one weighted value a head."""
    total: Any = 0
    for q in products(arch, PassSizes("forward", 1, 1)):
        if q.name.endswith((".scores", ".values")):
            total = total + q.times * q.count * q.m * q.k * q.n
    return total


def per_token(arch: Architecture) -> tuple[Any, Any]:
    """Multiply-adds of one token with the weights: (layers, output matrix)."""
    layers: Any = 0
    head: Any = 0
    for q in products(arch, PassSizes("forward", 1, 1)):
        if q.name.endswith((".scores", ".values")):
            continue
        work = q.times * q.count * q.m * q.k * q.n
        if q.part == HEAD:
            head = head + work
        else:
            layers = layers + work
    return layers, head


def complexity(arch: Architecture, m: Any, T: Any) -> tuple[Node, Table]:
    """The exact counts for one sequence, and the big-O table."""
    pair = per_pair(arch)
    layers, head = per_token(arch)
    without = Node.sum("complexity.uncached_macs", "Without a cache", [
        Node.of("complexity.uncached_score_macs", "scores and values", uncached_score_macs, pair, m, T),
        Node.of("complexity.uncached_weight_macs", "weights", uncached_weight_macs, layers, head, m, T),
    ])  # fmt: skip
    cached = Node.sum("complexity.cached_macs", "With a cache", [
        Node.of("complexity.cached_score_macs", "scores and values", cached_score_macs, pair, m, T),
        Node.of("complexity.cached_weight_macs", "weights", cached_weight_macs, layers, head, m, T),
    ])  # fmt: skip
    table = Table("Growth with T generated tokens after m given ones", ("", "without a cache", "with a cache"), BIG_O)
    return Node.group("Multiply-adds to generate T tokens after m, one sequence", [without, cached]), table
