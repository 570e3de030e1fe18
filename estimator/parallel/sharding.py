"""ZeRO's stages and their kin: what a GPU keeps of weights, gradients and optimizer state, and what it sends.

Stage 0 copies everything (DDP). Stage 1 shards the optimizer's state, stage 2 the gradients too, stage 3 the weights
too. Under the torch recipes stage 1 is ZeroRedundancyOptimizer, which gives whole tensors to ranks and keeps DDP's
all-reduce; stages 2 and 3 are FSDP2 without and with resharding after the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heapreplace
from typing import Any

from estimator.formula import Formula
from estimator.formulas.zero import replicated_bytes, sharded_bytes
from estimator.inventory import Weight
from estimator.ops import ceil_div
from estimator.parallel.recipe import Rates
from estimator.records import dataclass
from estimator.trace import Traced, value_of

STAGES = (0, 1, 2, 3)
WEIGHTS, GRADIENTS, OPTIMIZER = "weights", "gradients", "optimizer"
EXPERTS = "experts"  # label of a piece that expert parallelism divides
SHARDED = {0: (), 1: (OPTIMIZER,), 2: (OPTIMIZER, GRADIENTS), 3: (OPTIMIZER, GRADIENTS, WEIGHTS)}


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements of one kind of weights that a rank works with before ZeRO shards them.

    label     "weights", EXPERTS ...
    elements  on this rank; over: how many GPUs hold the same ones; weights: their tensors, where known
    trains    False of what an adapter leaves as it is: no gradients, no optimizer state
    """

    label: str
    elements: Any
    over: Any
    weights: tuple[Weight, ...] = ()
    trains: bool = True


@dataclass(frozen=True, slots=True)
class Share:
    """What one GPU holds of one kind of state."""

    part: str
    bytes: Any
    formula: Formula
    sharded: bool
    padding: Any = 0


def held(pieces: Sequence[Piece], recipe: Rates, stage: int) -> list[Share]:
    """Weights, gradients and optimizer state that the most loaded GPU keeps at ``stage``."""
    widths = {WEIGHTS: recipe.weight, GRADIENTS: recipe.gradient, OPTIMIZER: recipe.optimizer}
    out = []
    for part, width in widths.items():
        own = pieces if part == WEIGHTS else [p for p in pieces if p.trains]
        if part not in sharded_parts(recipe, stage):
            total = sum(replicated_bytes(p.elements, width) for p in own)
            out.append(Share(part, total, replicated_bytes, False))
            continue
        shares = [(p, shard(p, recipe, stage)) for p in own]
        padding = sum(value_of(n) * value_of(p.over) - value_of(p.elements) for p, n in shares)
        out.append(Share(part, sum(width * n for _, n in shares), sharded_bytes, True, width * padding))
    return out


def sharded_parts(recipe: Rates, stage: int) -> tuple[str, ...]:
    """What a stage shards. FSDP2 stores shards of the weights even where it keeps the gathered ones (stage 2)."""
    return SHARDED[3] if stage == 2 and not recipe.flat else SHARDED[stage]


def keeps_gathered(recipe: Rates, stage: int, over: Any) -> bool:
    """Whether all weights stay gathered from the forward to the backward pass: reshard_after_forward=False."""
    return stage == 2 and not recipe.flat and (isinstance(over, Traced) or bool(over != 1))


def shard(piece: Piece, recipe: Rates, stage: int) -> Any:
    """Elements of ``piece`` that the most loaded of its GPUs keeps."""
    if recipe.flat or not piece.weights:
        return ceil_div(piece.elements, piece.over)
    if stage == 1:
        return greedy(piece.weights, piece.over)
    return rows(piece.weights, piece.over)


def rows(weights: Iterable[Weight], over: Any) -> Any:
    """Elements of rank 0 where every tensor is cut along its first dimension.

    Source: torch/distributed/fsdp/_fully_shard/_fsdp_param.py, _chunk_with_empty on dimension 0.
    """
    return sum(w.times * ceil_div(w.shape[0], over) * _rest(w.shape) for w in weights)


def _rest(shape: tuple[Any, ...]) -> Any:
    out: Any = 1
    for x in shape[1:]:
        out = out * x
    return out


def greedy(weights: Iterable[Weight], over: Any) -> Any:
    """Elements of the fullest rank where whole tensors go to the emptiest rank, largest first.

    Source: torch/distributed/optim/zero_redundancy_optimizer.py, _partition_parameters.
    """
    sizes = sorted((int(value_of(w.elements)) for w in weights for _ in range(int(value_of(w.times)))), reverse=True)
    most = max(1, len(sizes))  # a rank beyond the tensors gets none
    ranks = [0] * (int(value_of(over)) if value_of(over) < most else most)
    heapify(ranks)
    for size in sizes:
        heapreplace(ranks, ranks[0] + size)
    return max(ranks)
