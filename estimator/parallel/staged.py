"""Pipeline parallelism as torch.distributed.pipelining runs it: what a GPU holds, and in which order it works.

A GPU has one group of layers, or (interleaved) several, each a PipelineStage. Its schedule is a list of forward and
backward passes of micro-batches through them. Sources (2.11): torch/distributed/pipelining/{stage,schedules}.py,
ScheduleGPipe, Schedule1F1B, ScheduleInterleaved1F1B.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture, Layer, Linear
from estimator.inventory import HEAD
from estimator.parallel.pipeline import split
from estimator.peft.base import Adapter
from estimator.records import dataclass
from estimator.same import Same
from estimator.trace import value_of

FLAG = "--pipeline-parallel"
GPIPE, ONE, LOOPED = "gpipe", "1f1b", "interleaved"
FORWARD, BACKWARD = "F", "B"


@dataclass(frozen=True, slots=True)
class Pipe:
    """One GPU of a pipeline: its ``rank`` among ``stages``, the ``micro`` batches of a step, its ``parts`` of the
    model, and the ``schedule``."""

    rank: int
    stages: int
    micro: Any
    schedule: str
    parts: tuple[Same[Architecture], ...]

    def first(self, part: int) -> bool:
        """Whether a part begins with the embeddings."""
        return self.rank == 0 and part == 0

    def last(self, part: int) -> bool:
        """Whether a part ends with the loss."""
        return self.rank == self.stages - 1 and part == len(self.parts) - 1

    def order(self) -> list[tuple[str, int]]:
        """(a forward or a backward pass, of which part), one after another."""
        p, n, micro = self.stages, len(self.parts), int(value_of(self.micro))
        if self.schedule == GPIPE:
            return [(FORWARD, 0)] * micro + [(BACKWARD, 0)] * micro
        if self.schedule == ONE:
            ahead = min(micro, p - self.rank)
            both = [(BACKWARD, 0), (FORWARD, 0)] * (micro - ahead)
            return [(FORWARD, 0)] * ahead + both + [(BACKWARD, 0)] * ahead
        turn = rounds(micro, p)[1]
        ahead = min((n - 1) * turn + 2 * (p - 1 - self.rank), micro * n)
        out = [(FORWARD, i // turn % n) for i in range(ahead)]
        for i in range(micro * n - ahead):
            out += [(FORWARD, (ahead + i) // turn % n), (BACKWARD, n - 1 - i // turn % n)]
        return out + [(BACKWARD, n - 1 - i // turn % n) for i in range(micro * n - ahead, micro * n)]


def rounds(micro: int, stages: int) -> tuple[int, int]:
    """Rounds of an interleaved schedule, and micro-batches that go through a group of layers in each."""
    times = max(1, micro // stages)
    return times, micro // times


def pipes(arch: Architecture, stages: Any, micro: Any, schedule: str, chunks: int, how: str) -> list[Pipe]:
    """Every GPU of the pipeline. InputError for what schedules do not take, and models that are no plain decoder."""
    p, m = int(value_of(stages)), int(value_of(micro))
    if schedule not in (GPIPE, ONE, LOOPED):
        raise InputError(f"--schedule {schedule}: under PyTorch's recipes {ONE}, {GPIPE} and {LOOPED} are simulated")
    if chunks != 1 and schedule != LOOPED:
        raise InputError(f"--virtual-stages {chunks} needs --schedule {LOOPED}")
    if schedule == ONE and m < p:
        raise InputError(f"--schedule {ONE}: --micro-batches {m} (train: --accumulation) must be {FLAG} {p} or more")
    if schedule == LOOPED and m % rounds(m, p)[0]:
        raise InputError(f"--schedule {LOOPED}: --micro-batches {m} do not divide into {rounds(m, p)[0]} rounds")
    beside = arch.beside or arch.towers or any(x.ahead or x.streams or x.wiring == "shortcut" for x in arch.layers)
    if arch.kind != "decoder" or beside:
        raise InputError(f"{FLAG} {p} is simulated for a plain decoder; use --recipe megatron")
    made: dict[Any, Same[Architecture]] = {}
    out = []
    for s in split(arch, stages, chunks, how):
        parts = []
        for i, layers in enumerate(s.chunks):
            ends = s.first and i == 0, s.last and i == chunks - 1
            key = ends, tuple((id(x), value_of(n)) for x, n in layers)
            parts.append(made.setdefault(key, Same(part(arch, layers, *ends))))
        out.append(Pipe(s.index, p, micro, schedule, tuple(parts)))
    return out


def part(arch: Architecture, layers: tuple[tuple[Layer, Any], ...], first: bool, last: bool) -> Architecture:
    """Some layers of a model, with its embeddings and its head where they stand at these ends."""
    own = tuple(x._replace(times=n, indices=None) for x, n in layers)
    head = untied(arch).head if last else None
    return arch._replace(
        layers=own, num_layers=sum(n for _, n in layers), embeddings=arch.embeddings if first else (),
        final=arch.final if last else (), head=head, tied=False, has_head=last and arch.has_head,
        head_extras=arch.head_extras if last else (), extra_weights=arch.extra_weights if first else (),
    )  # fmt: skip


def untied(arch: Architecture) -> Architecture:
    """The model with an output matrix of its own: a tied table would have to be on two GPUs."""
    if arch.head is not None or not arch.has_head:
        return arch
    return arch._replace(head=Linear(arch.head_name, arch.hidden, arch.vocab, False, False, HEAD), tied=False)


def held(pipe: Pipe) -> Architecture:
    """All that a GPU holds, as one model."""
    first, *others = (p.it for p in pipe.parts)
    end = others[-1] if others else first
    layers: dict[int, Layer] = {}
    for one in (first, *others):
        for x in one.layers:
            key = id(x.mixer)
            layers[key] = x._replace(times=layers[key].times + x.times) if key in layers else x
    return first._replace(
        layers=tuple(layers.values()), num_layers=sum(x.times for x in layers.values()), final=end.final,
        head=end.head, has_head=end.has_head, head_extras=end.head_extras,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _adapter_of(adapter: Same[Adapter], arch: Same[Architecture]) -> Adapter:
    times = {w.module: x.times for x in arch.it.layers for w in x.weights()}
    times |= {w.module: w.times for w in arch.it._replace(layers=()).weights()}
    tensors = tuple(t._replace(times=times[t.module]) for t in adapter.it.tensors if t.module in times)
    return replace(adapter.it, tensors=tensors, unfrozen=tuple(t for t in adapter.it.unfrozen if t.module in times),
                   targets=tuple(t for t in adapter.it.targets if t.name in times))  # fmt: skip


def adapter_of_part(adapter: Adapter, arch: Architecture) -> Adapter:
    """What of an adapter goes into a part of its model."""
    return _adapter_of(Same(adapter), Same(arch))


__all__ = [
    "BACKWARD", "FLAG", "FORWARD", "GPIPE", "LOOPED", "ONE", "Pipe", "adapter_of_part", "held", "pipes", "untied",
]  # fmt: skip
