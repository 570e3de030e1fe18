"""FSDP, buffer by buffer, around one GPU's training step; and what stands under each of PyTorch's data parallelisms.

A :class:`Fully` is told by the simulated step when it enters and leaves a layer, in the forward and in the backward
pass, and takes and returns the buffers that FSDP2 takes and returns there; :class:`Flat` does what FSDP1 does. DDP and
ZeroRedundancyOptimizer only change what stands: :mod:`estimator.parallel.ddp`.

Sources: torch/distributed/fsdp/_fully_shard/{_fsdp_param_group,_fsdp_collectives,_fsdp_state}.py,
torch/distributed/fsdp/_flat_param.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from estimator.families.base import Architecture
from estimator.inventory import Weight, total
from estimator.ops import ceil_div, exact_div
from estimator.optimizers import Trained
from estimator.parallel.ddp import bucket_bytes, own_tensors
from estimator.parallel.units import KEPT, TABLES, FsdpGroup, Parts, Unit, apart, cut, elements, packed_shape
from estimator.stack.blocks import block_bytes, small_block
from estimator.stack.packed import is_packed, packed_bytes
from estimator.stack.tape import HALF, Tape, Tensor


def cut_tensors(trained: Iterable[Trained], over: Any) -> list[Trained]:
    """Rank 0's shards of what trains, each tensor by itself."""
    return [Trained(cut(t.shape, over), t.width, t.times, t.matrix, decays=t.decays) for t in trained]


def flat_tensors(arch: Architecture, load: Any) -> list[Trained]:
    """Rank 0's shards of a model under FSDP1: one flat tensor a layer, and one of the rest.

    Source: torch/distributed/fsdp/_flat_param.py, FlatParamHandle.shard: padded to a multiple of the GPUs.
    """
    units = [(sum((w.elements * w.times for w in x.weights()), 0), 1 if x.shared else x.times) for x in arch.layers]
    rest = total(arch.weights()) - sum((n for n, _ in units), 0)
    return [
        Trained((ceil_div(exact_div(n, times), load.gpus),), load.width, times, matrix=False)
        for n, times in (*units, (rest, 1))
    ]


def shards(arch: Architecture, load: Any, trained: Iterable[Trained]) -> list[Trained]:
    """Rank 0's shards of what trains, of which it keeps gradients and states."""
    return flat_tensors(arch, load) if load.fsdp == 1 and load.adapter is None else cut_tensors(trained, load.gpus)


class Fully:
    """FSDP2: ``fully_shard`` on every layer, then on the model.

    over    GPUs that share a copy of the model; keep: reshard_after_forward=False (stage 2), else True (stage 3)
    reduce  bytes of an element that is reduced; own: of a stored shard
    adds    shards of gradients stand already, and new ones are added to them
    host    shards of weights, gradients and states lie in host memory (CPUOffloadPolicy)
    root_kept  the root unit stays gathered from the forward to the backward pass
    apart   the table and the output matrix are units of their own, in front of the layers and behind them
    """

    flat = False  # a unit's gradients become one tensor of its size before what was gathered is given back

    def __init__(self, tape: Tape, arch: Architecture, load: Any, width: int) -> None:
        self.t, self.over, self.keep = tape, load.gpus, load.stage == 2
        self.load, self.width, self.reduce, self.own = load, width, load.width, load.width
        self.root_kept = self.keep or load.root == KEPT
        self.adds, self.host = load.kept_gradients, load.host != "none"
        self.parts, self.apart = Parts(arch, load, width), load.wrap == TABLES
        self.tables = apart(arch) if self.apart else ()
        self.root = self.parts.group(None)
        self.layers: dict[int, FsdpGroup] = {}
        self.held: Tensor | None = None  # the last gathered buffer, kept until the next copy-out
        self.scatter: Tensor | None = None  # the last reduce-scatter's input, kept until the next one
        self.shards: list[Tensor] = []
        self.mark = 0
        self.end: int | None = None  # the module's last operation, where the loss is taken outside of it

    def take(self, n: Any, width: int, what: str) -> Tensor:
        made = self.t.alloc(n, width, what, "FSDP")
        self.t.carried.append(made.st.record)  # of one layer, then of the next
        return made

    def gather(self, g: FsdpGroup) -> None:
        """foreach_all_gather: one flat buffer; a copy of the shard in the gathered width where that differs."""
        n = g.gathered_bytes(self.over)
        copied = self.take(n, 1, "shard, converted or copied") if g.converted or self.host else None
        g.gathered = self.take(n * self.over, 1, f"gathered {g.label}")
        del copied

    def copy_out(self, g: FsdpGroup, forward: bool) -> None:
        """wait_for_unshard: the parameters, one tensor each; in the forward pass the flat buffer is kept a while."""
        before = self.held if forward else None  # a local of wait_for_unshard: freed when it returns
        g.whole = [
            self.take(elements(cut(s, self.over)) * self.over, width, f"unsharded {g.label}") for s, width, _ in g.parts
        ]
        if forward:
            self.held = g.gathered
        g.gathered = None
        del before

    def once_more(self, arch: Architecture) -> Fully | None:
        """What another pass over the weights reports to; None where they are still gathered."""
        return None if self.keep else type(self)(self.t, arch, self.load, self.width)

    def before_forward(self) -> None:
        self.gather(self.root)
        self.copy_out(self.root, True)

    def before_layer(self, key: int, layer: Unit, leaves: int) -> None:
        """pre_forward of a layer or another unit; ``leaves``: how many weights were seen before it."""
        self.layers[key] = g = self.parts.group(layer)
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
        if not self.root_kept:
            self.root.whole = []

    def before_backward(self) -> None:
        if not self.root_kept:
            self.gather(self.root)
            self.copy_out(self.root, False)
        if not self.keep:
            self.gather(self.layers[max(self.layers)])

    def enter_layer(self, key: int, again: bool) -> None:
        """pre_backward: copy out what was prefetched, prefetch the layer below; ``again``: one more of this kind."""
        if self.keep:
            return
        g = self.layers[key]
        above = self.layers.get(key + 1)
        if g.gathered is None and above is not None:  # what the layers of this kind above, counted as one, prefetched
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
        self.free_rest()
        self.scatter_gradients(self.root)
        self.scatter = None

    def free_rest(self) -> None:
        """What was gathered of layers that the backward pass did not come to goes in that callback too."""
        for g in self.layers.values():
            g.gathered, g.whole = None, []

    def scatter_gradients(self, g: FsdpGroup) -> None:
        """post_backward: reshard, copy the gradients into one padded buffer, reduce-scatter it into rank 0's shard."""
        grads = [leaf.held for leaf in g.leaves]
        for leaf in g.leaves:
            leaf.held = None
        frozen = not g.trained or not g.leaves
        if frozen or not self.flat:
            g.whole = []
        if frozen:
            return
        self.scatter = None
        n = sum(elements(cut(shape, self.over)) for shape in g.trained)
        self.scatter = self.take(n * self.over, self.reduce, "reduce-scatter input")
        g.whole = []
        at = prod(g.trained[-1])  # a loop variable of foreach_reduce still refers to what the unit registers last
        last = next((x for x in reversed(grads) if x is not None and x.n == at), None)
        grads.clear()
        out = self.take(n, self.reduce, "gradients, sharded")
        if self.reduce != self.own:
            out = self.take(n, self.own, "gradients, sharded")
        if not self.adds and not self.host:
            self.shards.append(out)
        del last


class Flat(Fully):
    """FSDP1: ``FullyShardedDataParallel`` around every layer and the model, FULL_SHARD or (stage 2) SHARD_GRAD_OP.

    A unit's parameters are views of one flat tensor, gathered where it stays: nothing is copied out. The root is not
    freed after the forward pass (_runtime_utils.py, _post_forward_reshard). Adapters, which peft wraps one by one, are
    taken into their layer's unit.
    """

    flat = True

    def __init__(self, tape: Tape, arch: Architecture, load: Any, width: int) -> None:
        super().__init__(tape, arch, load, width)
        self.root_kept = True

    def copy_out(self, g: FsdpGroup, forward: bool) -> None:
        g.whole, g.gathered = [g.gathered] if g.gathered is not None else [], None

    def scatter_gradients(self, g: FsdpGroup) -> None:
        super().scatter_gradients(g)
        self.scatter = None


def prepare(arch: Architecture, load: Any, trained: list[Trained], base: dict[tuple[str, str], Any]) -> list[Trained]:
    """Change what stands on rank 0 before a step, and return the tensors whose state it keeps."""
    if load.stage >= 2:
        base["model", "weights"] = base_shards(arch, load)
        own = shards(arch, load, trained)
        if ("reference model", "weights") in base:
            base["reference model", "weights"] = base["model", "weights"]
            if load.stage == 2:  # no backward pass puts it back into shards
                wide = HALF if load.amp else load.width
                whole = sum(w.times * block_bytes(w.elements * wide) for w in arch.weights())
                base["reference model", "gathered"] = whole
        if load.adapter is not None:
            base["adapters", "weights"] = adapter_shards(load)
        if load.kept_gradients:
            base["gradients", "standing"] = sum(t.times * block_bytes(t.n * t.width) for t in own)
        if load.host != "none":
            for key in (("adapters", "weights"), ("gradients", "standing"), ("reference model", "weights")):
                base.pop(key, None)
            base["model", "weights"] = whole_scales(arch, load)
        return own
    base["DDP", "gradient buckets"] = bucket_bytes(arch, trained, load.adapter is None)
    return own_tensors(trained, load.gpus) if load.stage == 1 else trained


def standing_bytes(arch: Architecture, load: Any, trained: list[Trained]) -> tuple[Any, list[Trained], list[Trained]]:
    """Rank 0's bytes of weights, the tensors whose gradients it keeps, and those whose state it keeps."""
    if load.stage >= 2:
        own = shards(arch, load, trained)
        return sum(w.times * shard_bytes(w, load) for w in arch.weights()), own, own
    return None, trained, own_tensors(trained, load.gpus) if load.stage == 1 else trained


def wrapper(tape: Tape, arch: Architecture, load: Any) -> Fully | None:
    """What the simulated step reports to; None where every GPU runs the plain model (stages 0 and 1)."""
    if load.stage < 2:
        return None
    return (Flat if load.fsdp == 1 else Fully)(tape, arch, load, HALF if load.amp else load.width)


def shard_bytes(w: Weight, load: Any) -> Any:
    """Bytes of rank 0's shard of a weight, with the scales of a packed one."""
    if not is_packed(w, load):
        return elements(cut(w.shape, load.gpus)) * load.width
    _, *scales = packed_bytes(w.elements, load.quantization)
    return cut(packed_shape(w), load.gpus)[0] + sum(scales)


def base_shards(arch: Architecture, load: Any) -> Any:
    """What the allocator counts for rank 0's shards of the model's weights, and the whole scales of packed ones."""
    if load.fsdp == 1 and not load.quantization:
        return sum(t.times * block_bytes(t.n * t.width) for t in flat_tensors(arch, load))
    held: Any = whole_scales(arch, load)
    for w in arch.weights():
        if is_packed(w, load):
            held = held + w.times * small_block(cut(packed_shape(w), load.gpus)[0])
        else:
            held = held + w.times * block_bytes(elements(cut(w.shape, load.gpus)) * load.width)
    return held


def whole_scales(arch: Architecture, load: Any) -> Any:
    """The scales and tables of packed weights, which are no parameters: whole on every GPU."""
    packed = [w for w in arch.weights() if is_packed(w, load)]
    return sum(w.times * sum(small_block(x) for x in packed_bytes(w.elements, load.quantization)[1:]) for w in packed)


def adapter_shards(load: Any) -> Any:
    """The same of an adapter's tensors."""
    tensors = load.adapter.tensors
    return sum(t.times * block_bytes(elements(cut(t.shape, load.gpus)) * load.adapter_width) for t in tensors)


__all__ = ["Flat", "Fully", "cut_tensors", "prepare", "standing_bytes", "wrapper"]
