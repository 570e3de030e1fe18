"""A training process on the caching allocator, block by block: load, states, and steps until they repeat.

The folds of :mod:`estimator.stack.replay` add up what is handed out; here every block is found in a segment, as the
allocator finds it (:mod:`estimator.stack.caching`). What it has reserved falls out, which the other way is a measured
spread, and so do the rests that a block keeps when it is cut from a larger one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from estimator.families.base import Architecture
from estimator.moments.passes import at_once, backward_pass, forward_pass, training_machine
from estimator.moments.standing import added_tensors, trained_tensors, weight_tensors
from estimator.moments.workload import Workload
from estimator.optimizer_kinds import foreach
from estimator.optimizers import Optimizer, Trained, find_optimizer
from estimator.records import dataclass
from estimator.stack.caching import Block, CachingAllocator
from estimator.stack.tape import F32, I64, Tape
from estimator.trace import value_of

STEPS = 3  # the third finds the segments of the second: the steady state


@dataclass(frozen=True, slots=True)
class Pooled:
    """Bytes at most in the last step: handed out (with the rests that blocks keep), and reserved from the driver."""

    allocated: int
    reserved: int


def recorded(arch: Architecture, load: Workload, optimizer: Optimizer) -> list[Any]:
    """The log of one forward and backward pass, requests not rounded."""
    tape = Tape(True, load.amp)
    tape.counts = lambda nbytes: nbytes
    m = training_machine(arch, load, tape, optimizer)
    ids = tape.alloc(m.rows, I64, "token ids")
    loss = backward_pass(tape, forward_pass(m, arch, load), load)
    log = list(tape.log)
    del ids, loss
    return log


def play(allocator: CachingAllocator, log: Sequence[Any]) -> list[Block]:
    """Every request and release of a log in order, layers unrolled; what is left in the end.

    A layer that stands for many gives back what the round before left under another name: of that size the oldest
    that no entry of its own gives back.
    """
    left = Counter[int]()
    for sign, record in unrolled(log):
        left[id(record)] += sign
    alive: dict[int, list[Block]] = {}
    stay: dict[int, list[int]] = {}
    for sign, record in unrolled(log):
        size, key = int(value_of(record[0])), id(record)
        if size == 0:
            continue
        if sign == 1:
            alive.setdefault(key, []).append(allocator.take(size))
            if left[key] > 0 and key not in stay.setdefault(size, []):
                stay[size].append(key)
        elif alive.get(key):
            allocator.give(alive[key].pop())
        else:
            found = next((k for k in stay.get(size, ()) if left[k] > 0 and alive[k]), None)
            if found is not None:
                left[found] -= 1
                allocator.give(alive[found].pop(0))
    return [block for blocks in alive.values() for block in blocks]


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


def requests(arch: Architecture, load: Workload) -> Iterator[Any]:
    """Bytes of what stands when the model is loaded: weights, adapters, a reference's copy."""
    weights = [(w.times, parts) for w, parts in weight_tensors(arch, load)]
    for parts in in_order(weights):
        yield from parts
    yield from in_order([(w.times, w.elements * load.width) for w in arch.buffers])
    yield from in_order([(b.times, b.bytes) for b in arch.constants])
    if load.adapter is not None:
        yield from in_order(added_tensors(load.adapter, load))
    if load.reference == "model":
        for parts in in_order(weights):
            yield from parts


def temporaries(optimizer: Optimizer, trained: list[Trained]) -> list[int]:
    """Requests of an optimizer's step: one or more of every tensor (foreach), else fp32 copies of the largest."""
    temporary, every = int(value_of(optimizer.step(trained))), int(value_of(foreach(trained)))
    if not temporary:  # a fused one, or nothing to train: trainable tokens of which none is named
        return []
    if temporary % every == 0:
        return [int(value_of(t.n)) * t.width for t in each(trained)] * (temporary // every)
    largest = max(int(value_of(t.n)) for t in trained) * F32
    return [*[largest] * (temporary // largest), temporary % largest]


def each(trained: list[Trained]) -> Iterator[Trained]:
    """The tensors that train, one by one."""
    return in_order([(t.times, t) for t in trained])


def pooled(arch: Architecture, load: Workload, micro_batches: int = 1) -> Pooled:
    """The last of ``STEPS`` training steps of a fresh process on one GPU.

    micro_batches: forward and backward passes a step. Raises InputError where nothing trains.
    """
    optimizer, trained = find_optimizer(load.optimizer), trained_tensors(arch, load)
    first = recorded(arch, replace(load, kept_gradients=False), optimizer)
    again = recorded(arch, replace(load, kept_gradients=True), optimizer) if micro_batches > 1 else []
    needed = [] if at_once(load, optimizer) else temporaries(optimizer, trained)
    allocator = CachingAllocator()
    take, give = allocator.take, allocator.give
    for request in requests(arch, load):
        take(int(value_of(request)))
    take(load.card.workspace)
    for step in range(STEPS):
        allocator.peak = allocator.allocated
        gradients = play(allocator, first)
        if step == 0:
            take(load.card.workspace)  # the thread of the backward pass
        for _ in range(micro_batches - 1):
            before = allocator.free
            for block in play(allocator, again):
                give(block)
            if allocator.free == before:  # the others find what this one found
                break
        if step == 0:
            for t in each(trained):
                for size in optimizer.states(t):
                    take(int(value_of(size)))
            if optimizer.fixed:
                take(optimizer.fixed)
        held = [take(size) for size in needed if size]
        for block in (*held, *gradients):
            give(block)
    return Pooled(allocator.peak, allocator.reserved)


__all__ = ["Pooled", "pooled"]
