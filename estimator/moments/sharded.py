"""A run as one of many GPUs sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.families.base import Architecture
from estimator.inventory import EMBEDDING
from estimator.moments.outcome import Live
from estimator.moments.workload import Workload
from estimator.optimizers import Optimizer, Trained, held_bytes
from estimator.stack.tape import HALF, Tape


def sharded(
    arch: Architecture, load: Workload, trained: list[Trained], base: Live, optimizer: Optimizer, tape: Tape
) -> tuple[Workload, Any, list[Trained]]:
    """The run as one GPU sees it, what its step reports to, the tensors it updates; ``base``, in place: its share."""
    if load.sharder == "deepspeed":
        from estimator.parallel import zero_engine

        return load, zero_engine.wrapper(tape, arch, load, trained, base), trained
    if load.gpus == 1:
        if load.kept_gradients and whole_table(arch, load):  # all words', until the step
            base["gradients", "standing"] += (load.tensor - 1) * table_bytes(arch, load)
        return load, None, trained
    from estimator.parallel.sharded import prepare, wrapper

    own = prepare(arch, load, trained, base)
    if ("optimizer", "states") in base:
        base["optimizer", "states"] = held_bytes(optimizer, own) if load.host == "none" else 0
    # FSDP2's mixed precision gathers bf16 weights: there is nothing left for autocast to convert
    run = load
    if load.stage >= 2 and load.amp:
        run, tape.amp = replace(load, width=HALF, amp=False, adapter_width=HALF), False
    return run, wrapper(tape, arch, load), own


def step_bytes(arch: Architecture, load: Workload, wrap: Any, optimizer: Optimizer, own: list[Trained]) -> Any:
    """Bytes that the optimizer's step takes for a moment."""
    if load.sharder == "deepspeed":
        return wrap.step_bytes()
    if whole_table(arch, load):
        return optimizer.step(own) + table_bytes(arch, load)
    return optimizer.step(own) if load.host == "none" else 0


def whole_table(arch: Architecture, load: Workload) -> bool:
    """Whether the gradient of a table that is cut by words is one of all words until the step scatters it."""
    return load.sequence and not arch.tied and load.gpus == 1


def table_bytes(arch: Architecture, load: Workload) -> Any:
    """Bytes of this GPU's words of the table."""
    return sum(w.elements * load.width for w in arch.weights() if w.role == EMBEDDING)
