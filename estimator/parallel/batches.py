"""FSDP2 around the micro-batches of a pipeline's stage: what is gathered and added up between its passes.

torch.distributed.pipelining puts off what FSDP2 does after a backward pass (set_reshard_after_backward(False),
set_requires_gradient_sync(False)): weights stay gathered and gradients whole, until the last micro-batch is through and
each unit is reduced, the root first. At stage 3 a forward pass gives its weights back as ever, also those that a
backward pass left gathered. The loss is taken outside of the stage's module.

Sources (2.11): torch/distributed/pipelining/stage.py (backward_maybe_with_nosync, perform_reduce_grad), schedules.py
(_add_unshard_reshard); torch/distributed/fsdp/_fully_shard/{_fsdp_param_group,_fsdp_param}.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from estimator.families.base import Architecture
from estimator.parallel.sharded import Fully
from estimator.parallel.units import FsdpGroup, Parts, cut, elements
from estimator.stack.blocks import block_bytes
from estimator.stack.tape import F32, HALF, Leaf, Param, Tape, Tensor
from estimator.trace import value_of

SHARDED, ASKED, WHOLE = "sharded", "asked for", "whole"  # a stage's weights as a pass begins
GATHERED, GRADIENTS = ("FSDP", "gathered weights"), ("gradients", "standing")


class Between(Fully):
    """One micro-batch. before: how the weights lie as its forward and as its backward pass begin.

    ASKED: the schedule has gathered each unit's flat buffer, of which nothing is copied out yet. Under a mixed
    precision policy (``wide``) a unit's gradients are added to sums in fp32 as its backward pass ends; ``standing``:
    those are there.
    """

    def __init__(self, tape: Tape, part: Architecture, load: Any, standing: bool, before: tuple[str, str]) -> None:
        self.wide = load.amp
        super().__init__(tape, part, load, HALF if load.amp else load.width)
        self.before, self.lies, self.sums_stand = before, before[0], standing
        self.largest = max((g.gathered_bytes(self.over) * self.over for g, _ in units(part, load)), key=value_of)
        self.sums: list[Tensor] = []

    @property
    def gathered(self) -> bool:
        return self.keep or self.lies != SHARDED

    def gather(self, g: FsdpGroup) -> None:
        if not self.gathered:
            super().gather(g)

    def copy_out(self, g: FsdpGroup, forward: bool) -> None:
        if not self.gathered:
            super().copy_out(g, forward)
        elif forward and not self.keep:
            with unlogged(self.t):
                g.whole = whole(self.t, g, self.over)

    def before_forward(self) -> None:
        if self.lies == ASKED:
            copied = self.take(self.largest, 1, "unsharded unit")  # beside its flat buffer, which then goes
            del copied
        super().before_forward()

    def returns(self, leaves: Sequence[Any]) -> None:
        self.after_forward(leaves)
        self.end = self.t.seq

    def after_forward(self, leaves: Sequence[Any]) -> None:
        if self.end is None:
            super().after_forward(leaves)

    def before_backward(self) -> None:
        self.lies = self.before[1]
        if self.end is not None:
            super().before_backward()

    def enter_layer(self, key: int, again: bool) -> None:
        """A stage that hands on its last layer's output as it is: that layer's hook runs before the root's."""
        first = self.end is None and key == max(self.layers)
        super().enter_layer(key, again)
        if first and not self.keep:
            self.gather(self.root)
            self.copy_out(self.root, False)

    def free_rest(self) -> None:
        """Nothing: what is whole stays so."""

    def scatter_gradients(self, g: FsdpGroup) -> None:
        for leaf in g.leaves if self.wide else ():
            if not self.sums_stand:
                self.sums.append(self.t.alloc(leaf.n, F32, "gradients, added up"))
            leaf.held = None


@contextmanager
def unlogged(t: Tape) -> Iterator[None]:
    """What stands before the log begins."""
    log, t.log = t.log, []
    try:
        yield
    finally:
        t.log = log


def whole(t: Tape, g: FsdpGroup, over: Any) -> list[Tensor]:
    """A unit's gathered weights."""
    where, what = GATHERED
    return [t.alloc(elements(cut(s, over)) * over, width, what, where) for s, width, _ in g.parts]


def units(part: Architecture, load: Any) -> list[tuple[FsdpGroup, Any]]:
    """What fully_shard gathers together in a stage, and how often it is there: the root, each kind of layer."""
    parts = Parts(part, load, HALF if load.amp else load.width)
    return [(parts.group(None), 1), *((parts.group(x), x.times) for x in part.layers)]


def whole_bytes(part: Architecture, load: Any) -> Any:
    """Bytes of a stage's gathered weights."""
    over = load.gpus
    return sum(
        (times * block_bytes(elements(cut(s, over)) * over * width)
         for g, times in units(part, load) for s, width, _ in g.parts), 0
    )  # fmt: skip


def shard_bytes(part: Architecture, load: Any) -> Any:
    """Bytes of this GPU's shards of a stage's gradients: one buffer a unit."""
    each = ((sum(elements(cut(s, load.gpus)) for s in g.trained), times) for g, times in units(part, load))
    return sum((times * block_bytes(n * load.width) for n, times in each), 0)


def reduce(tape: Tape, part: Architecture, load: Any) -> Fully:
    """All units of a stage after its last backward pass: its weights are given back, its gradients reduced."""
    fsdp = Fully(tape, part, load, HALF if load.amp else load.width)
    for g, times in units(part, load):
        for n in (1, times - 1) if value_of(times) > 1 else (1,):
            with unlogged(tape):
                g.whole = whole(tape, g, load.gpus)
                g.leaves = [_graded(tape, elements(shape), load.width) for shape in g.trained]
            with tape.repeated(n):
                fsdp.scatter_gradients(g)
    return fsdp


def _graded(t: Tape, n: Any, width: int) -> Leaf:
    """A weight with its whole gradient."""
    made = Leaf(Param(n, width))
    where, what = GRADIENTS
    made.held = t.alloc(n, width, what, where)
    return made


__all__ = ["ASKED", "GATHERED", "GRADIENTS", "SHARDED", "WHOLE", "Between", "reduce", "shard_bytes", "whole_bytes"]
