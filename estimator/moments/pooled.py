"""A training process on the caching allocator, block by block: load, states, and steps until they repeat.

The folds of :mod:`estimator.stack.replay` add up what is handed out; here every block is found in a segment, as the
allocator finds it (:mod:`estimator.stack.caching`). What it has reserved falls out, which the other way is a measured
spread, and so do the rests that a block keeps when it is cut from a larger one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.moments.run import machine, split_layers
from estimator.moments.standing import number_bytes, trained_tensors, weight_tensors
from estimator.moments.workload import Workload
from estimator.optimizer_kinds import foreach
from estimator.optimizers import Optimizer, Trained, find_optimizer
from estimator.stack.caching import Block, CachingAllocator
from estimator.stack.engine import backward
from estimator.stack.offload import Offload
from estimator.stack.program import forward
from estimator.stack.replay import settle
from estimator.stack.tape import F32, I64, SPLIT_REST, Tape
from estimator.trace import value_of

STEPS = 3  # the third finds the segments of the second: the steady state
Handed = tuple[Block, bool]  # a block, and whether it lies in the pool of small ones


@dataclass(frozen=True, slots=True)
class Pooled:
    """Bytes at most in the last step: handed out (with the rests that blocks keep), and reserved from the driver."""

    allocated: int
    reserved: int


def recorded(arch: Architecture, load: Workload) -> list[Any]:
    """The log of one forward and backward pass, requests not rounded."""
    from estimator.moments import scored_by_reference

    tape = Tape(True, load.amp)
    tape.counts = lambda nbytes: nbytes
    tape.stops = not load.reentrant
    if load.offload:
        tape.keeper = Offload(tape)
    m = machine(arch, load, tape)
    ids = tape.alloc(m.rows, I64, "token ids")
    out = forward(m, arch, split_layers(arch, load, m), load.checkpointing == "full")
    if load.reference:
        scored_by_reference(arch, load, tape)
    end = len(tape.log)
    loss, out.loss = out.loss, None
    if not load.hold_outputs:
        out.held = []
    if loss is None or loss.node is None:
        raise InputError("nothing trains")
    backward(tape, loss, out.bounds, None)
    out.held = []
    settle(tape.log, end)
    log = list(tape.log)
    del ids
    return log


class Process:
    """A process: its pool, and the gradients that stand since the last step."""

    def __init__(self) -> None:
        self.pool = CachingAllocator()
        self.gradients: list[Handed] = []

    def take(self, request: Any) -> Handed:
        """A block for a request in bytes."""
        n = int(value_of(request))
        return self.pool.take(n), n <= SPLIT_REST

    def give(self, handed: Handed) -> None:
        self.pool.give(*handed)

    def play(self, log: Sequence[Any]) -> list[Handed]:
        """Every request and release of a log in order, layers unrolled; what is left in the end.

        A layer that stands for many gives back what the round before left under another name: of that size the oldest
        that no entry of its own gives back.
        """
        left = Counter[int]()
        for sign, record in unrolled(log):
            left[id(record)] += sign
        alive: dict[int, list[Handed]] = {}
        stay: dict[int, list[int]] = {}
        for sign, record in unrolled(log):
            size, key = int(value_of(record[0])), id(record)
            if size == 0:
                continue
            if sign == 1:
                alive.setdefault(key, []).append(self.take(size))
                if left[key] > 0 and key not in stay.setdefault(size, []):
                    stay[size].append(key)
            elif alive.get(key):
                self.give(alive[key].pop())
            else:
                found = next((k for k in stay.get(size, ()) if left[k] > 0 and alive[k]), None)
                if found is not None:
                    left[found] -= 1
                    self.give(alive[found].pop(0))
        return [handed for blocks in alive.values() for handed in blocks]


def unrolled(log: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """(1 or -1, record) of a log whose segments are written out."""
    for sign, what in log:
        if type(what) is list:
            for _ in range(int(value_of(sign))):
                yield from what
        else:
            yield int(value_of(sign)), what


def in_order(groups: Sequence[tuple[Any, Any]]) -> Iterator[Any]:
    """Tensors of equal layers as a model lists them: all of one layer, then those of the next."""
    at = 0
    while at < len(groups):
        times, end = value_of(groups[at][0]), at
        while end < len(groups) and value_of(groups[end][0]) == times:
            end += 1
        for _ in range(int(times)):
            for _, what in groups[at:end]:
                yield what
        at = end


def requests(arch: Architecture, load: Workload) -> Iterator[int]:
    """Bytes of what stands when the model is loaded: weights, adapters, a reference's copy."""
    weights = [(w.times, parts) for w, parts in weight_tensors(arch, load)]
    for parts in in_order(weights):
        yield from parts
    if load.adapter is not None:
        added = [(t.times, _elements(t.shape) * number_bytes(t, load)) for t in load.adapter.tensors]
        yield from in_order(added)
    if load.reference == "model":
        for parts in in_order(weights):
            yield from parts


def _elements(shape: Sequence[Any]) -> int:
    n = 1
    for x in shape:
        n *= int(value_of(x))
    return n


def stepped(process: Process, optimizer: Optimizer, trained: list[Trained]) -> None:
    """An optimizer's temporaries: one or more of every tensor (foreach), else fp32 copies of the largest."""
    temporary, every = int(value_of(optimizer.step(trained))), int(value_of(foreach(trained)))
    if temporary and temporary % every == 0:
        sizes = [int(value_of(t.n)) * t.width for t in in_order([(t.times, t) for t in trained])]
        sizes *= temporary // every
    else:
        largest = max(int(value_of(t.n)) for t in trained) * F32
        sizes = [largest] * (temporary // largest) + [temporary % largest]
    held = [process.take(size) for size in sizes if size]
    for handed in held:
        process.give(handed)


def pooled(arch: Architecture, load: Workload, micro_batches: int = 1) -> Pooled:
    """The last of ``STEPS`` training steps of a fresh process on one GPU.

    micro_batches: forward and backward passes a step. Raises InputError where nothing trains.
    """
    optimizer, trained = find_optimizer(load.optimizer), trained_tensors(arch, load)
    first = recorded(arch, replace(load, kept_gradients=False))
    again = recorded(arch, replace(load, kept_gradients=True)) if micro_batches > 1 else []
    process = Process()
    for request in requests(arch, load):
        process.take(request)
    process.take(load.card.workspace)
    for step in range(STEPS):
        process.pool.peak = process.pool.allocated
        gradients = process.play(first)
        if step == 0:
            process.take(load.card.workspace)  # the thread of the backward pass
        for _ in range(micro_batches - 1):
            for handed in process.play(again):
                process.give(handed)
        if step == 0:
            for t in in_order([(t.times, t) for t in trained]):
                for size in optimizer.states(t):
                    process.take(size)
            if optimizer.fixed:
                process.take(optimizer.fixed)
        stepped(process, optimizer, trained)
        for handed in gradients:
            process.give(handed)
    return Pooled(process.pool.peak, process.pool.reserved)


__all__ = ["Pooled", "pooled"]
