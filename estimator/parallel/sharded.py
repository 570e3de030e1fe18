"""Data parallelism in PyTorch, buffer by buffer: DDP, ZeroRedundancyOptimizer and FSDP2 around one GPU's training step.

A :class:`Fully` is told by the simulated step when it enters and leaves a layer, in the forward and in the backward
pass, and takes and returns the buffers that FSDP2 takes and returns there. DDP and ZeroRedundancyOptimizer only change
what stands: see :func:`bucket_bytes` and :func:`own_tensors`.

Sources: torch/distributed/fsdp/_fully_shard/{_fsdp_param_group,_fsdp_collectives,_fsdp_state}.py;
torch/csrc/distributed/c10d/reducer.cpp; torch/distributed/optim/zero_redundancy_optimizer.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapreplace
from typing import Any

from estimator.families.base import Architecture, Layer
from estimator.inventory import Weight
from estimator.ops import ceil_div
from estimator.optimizers import Trained
from estimator.parallel.order import in_order
from estimator.stack.tape import HALF, Tape, Tensor, block_bytes
from estimator.trace import value_of

FIRST_BUCKET = 1024 * 1024  # reducer.hpp: kDefaultFirstBucketBytes
BUCKET = 25 * 1024 * 1024  # DistributedDataParallel(bucket_cap_mb=25)


def cut(shape: tuple[Any, ...], over: Any) -> tuple[Any, ...]:
    """Rank 0's part of a tensor that is cut along its first dimension, the rounded-up one."""
    return (ceil_div(shape[0], over), *shape[1:])


def elements(shape: tuple[Any, ...]) -> Any:
    out: Any = 1
    for x in shape:
        out = out * x
    return out


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


def cut_tensors(trained: Iterable[Trained], over: Any) -> list[Trained]:
    """Rank 0's shards of what trains."""
    return [Trained(cut(t.shape, over), t.width, t.times, t.matrix) for t in trained]


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


@dataclass(slots=True)
class FsdpGroup:
    """Parameters that are gathered and reduced together: one layer's, or the root's (everything else)."""

    shapes: tuple[tuple[Any, ...], ...]
    label: str
    leaves: list[Any] = field(default_factory=list)
    gathered: Tensor | None = None
    whole: list[Tensor] = field(default_factory=list)

    def shard(self, over: Any) -> Any:
        """Elements of all of rank 0's shards, padded."""
        return sum(elements(cut(s, over)) for s in self.shapes)


class Fully:
    """FSDP2: ``fully_shard`` on every layer, then on the model.

    over    GPUs; keep: reshard_after_forward=False (stage 2), else True (stage 3)
    width   bytes of an element that computes; reduce: of one that is reduced; own: of a stored shard
    """

    def __init__(
        self, tape: Tape, arch: Architecture, over: Any, keep: bool, width: int, reduce: int, own: int
    ) -> None:
        self.t, self.over, self.keep = tape, over, keep
        self.width, self.reduce, self.own = width, reduce, own
        names = {w.name for layer in arch.layers for w in layer.weights()}
        self.root = FsdpGroup(tuple(w.shape for w in arch.weights() if w.name not in names), "root")
        self.layers: dict[int, FsdpGroup] = {}
        self.held: Tensor | None = None  # the last gathered buffer, kept until the next copy-out
        self.scatter: Tensor | None = None  # the last reduce-scatter's input, kept until the next one
        self.shards: list[Tensor] = []
        self.mark = 0

    def take(self, n: Any, width: int, what: str) -> Tensor:
        where, self.t.where = self.t.where, "FSDP"
        made = self.t.alloc(n, width, what)
        self.t.where = where
        return made

    def gather(self, g: FsdpGroup) -> None:
        """foreach_all_gather: one flat buffer; a copy of the shard in the gathered width where that differs."""
        n = g.shard(self.over)
        copied = self.take(n, self.width, "shard, converted") if self.width != self.own else None
        g.gathered = self.take(n * self.over, self.width, f"gathered {g.label}")
        del copied

    def copy_out(self, g: FsdpGroup, forward: bool) -> None:
        """wait_for_unshard: the parameters, one tensor each; in the forward pass the flat buffer is kept a while."""
        before = self.held if forward else None  # a local of wait_for_unshard: freed when it returns
        g.whole = [
            self.take(elements(cut(s, self.over)) * self.over, self.width, f"unsharded {g.label}") for s in g.shapes
        ]
        if forward:
            self.held = g.gathered
        g.gathered = None
        del before

    def before_forward(self) -> None:
        self.gather(self.root)
        self.copy_out(self.root, True)

    def before_layer(self, key: int, layer: Layer, leaves: int) -> None:
        """pre_forward of a layer; ``leaves``: how many weights were seen before it."""
        self.layers[key] = g = FsdpGroup(tuple(w.shape for w in layer.weights()), "layer")
        self.mark = leaves
        self.gather(g)
        self.copy_out(g, True)

    def after_layer(self, key: int, leaves: Sequence[Any]) -> None:
        self.layers[key].leaves = list(leaves[self.mark :])
        if not self.keep:
            self.layers[key].whole = []

    def after_forward(self, leaves: Sequence[Any]) -> None:
        inner = {id(x) for g in self.layers.values() for x in g.leaves}
        self.root.leaves = [x for x in leaves if id(x) not in inner]
        self.held = None
        if not self.keep:
            self.root.whole = []

    def before_backward(self) -> None:
        if not self.keep:
            self.gather(self.root)
            self.copy_out(self.root, False)
            self.gather(self.layers[max(self.layers)])

    def enter_layer(self, key: int, again: bool) -> None:
        """pre_backward: copy out what was prefetched, prefetch the layer below; ``again``: one more of this kind."""
        if self.keep:
            return
        g = self.layers[key]
        above = self.layers.get(key + 1)
        if g.gathered is None and above is not None:  # what the last layer of the kind above prefetched
            g.gathered, above.gathered = above.gathered, None
        if g.gathered is None:
            self.gather(g)
        self.copy_out(g, False)
        below = key if again else key - 1
        if below in self.layers:
            self.gather(self.layers[below])

    def leave_layer(self, key: int) -> None:
        self.scatter_gradients(self.layers[key])

    def after_backward(self) -> None:
        """The root's own post_backward runs in the engine's final callback."""
        self.scatter_gradients(self.root)
        self.scatter = None

    def scatter_gradients(self, g: FsdpGroup) -> None:
        """post_backward: reshard, copy the gradients into one padded buffer, reduce-scatter it into rank 0's shard."""
        grads = [leaf.held for leaf in g.leaves]
        for leaf in g.leaves:
            leaf.held = None
        g.whole = []
        self.scatter = None
        n = g.shard(self.over)
        self.scatter = self.take(n * self.over, self.reduce, "reduce-scatter input")
        last = grads[-1] if grads else None  # a loop variable of foreach_reduce still refers to it
        grads.clear()
        out = self.take(n, self.reduce, "gradients, sharded")
        if self.reduce != self.own:
            out = self.take(n, self.own, "gradients, sharded")
        self.shards.append(out)
        del last


def prepare(arch: Architecture, load: Any, trained: list[Trained], base: dict[tuple[str, str], Any]) -> list[Trained]:
    """Change what stands on rank 0 before a step, and return the tensors whose state it keeps."""
    if load.stage >= 2:
        base["model", "weights"] = shard_bytes(arch.weights(), load.gpus, load.width)
        return cut_tensors(trained, load.gpus)
    base["DDP", "gradient buckets"] = bucket_bytes(arch, trained, load.adapter is None)
    return own_tensors(trained, load.gpus) if load.stage == 1 else trained


def standing_bytes(arch: Architecture, load: Any, trained: list[Trained]) -> tuple[Any, list[Trained], list[Trained]]:
    """Rank 0's bytes of weights, the tensors whose gradients it keeps, and those whose state it keeps."""
    if load.stage >= 2:
        own = cut_tensors(trained, load.gpus)
        return sum(w.times * elements(cut(w.shape, load.gpus)) * load.width for w in arch.weights()), own, own
    return None, trained, own_tensors(trained, load.gpus) if load.stage == 1 else trained


def wrapper(tape: Tape, arch: Architecture, load: Any) -> Fully | None:
    """What the simulated step reports to; None where every GPU runs the plain model (stages 0 and 1)."""
    if load.stage < 2:
        return None
    width = HALF if load.amp else load.width
    return Fully(tape, arch, load.gpus, load.stage == 2, width, load.width, load.width)


def shard_bytes(weights: Iterable[Weight], over: Any, width: int) -> Any:
    """What the allocator counts for rank 0's shards of the parameters."""
    return sum(w.times * block_bytes(elements(cut(w.shape, over)) * width) for w in weights)


__all__ = ["Fully", "bucket_bytes", "cut_tensors", "own_tensors", "prepare", "shard_bytes", "standing_bytes", "wrapper"]
