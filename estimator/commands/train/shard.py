"""What sharding takes of the host in a step: the library's own Python, and the optimizer where it is offloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.commands.flops.passes import Pass
from estimator.commands.train.run import Run
from estimator.errors import InputError
from estimator.parallel import hooks
from estimator.parallel.hooks import CPU_ADAM, MEASURED, NANO
from estimator.parallel.offload import OFFLOADS, TARGETS, allowed
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.recipes.base import Recipe
    from estimator.schemas import GpuSpec

HALF = 2  # bytes of what goes over PCIe: 16-bit gradients down, weights up


def python_seconds(made: Pass, recipe: Recipe, run: Run) -> tuple[float, tuple[str, ...]]:
    """(seconds of the host that the sharding library's hooks take in a step, what is said of them)."""
    d = run.degrees
    of = hooks.library(recipe.kind, run.stage)
    divided, said = _dtensor(made, recipe, run)
    if of is None or int(value_of(d.shards)) == 1:
        return divided, said
    found = hooks.units(made.arch, made.adapter, run.stage, made.work.checkpointing, run.accumulation)
    seconds = hooks.hook_seconds(of, found) / float(value_of(d.pipeline))
    note = (
        f"the Python of {of}'s hooks takes {seconds:.3g} s of the host in a step, fitted to {MEASURED}; their single "
        f"steps took {hooks.FAST:g} to {hooks.SLOW:g} times the best value, and high is a host {hooks.SLOW:g} times as "
        "slow"
    )
    return seconds + divided, (note, *said)


def _dtensor(made: Pass, recipe: Recipe, run: Run) -> tuple[float, tuple[str, ...]]:
    """The same of PyTorch's tensor parallelism."""
    d = run.degrees
    if recipe.kind != "simulated" or d.tensor == 1:
        return 0.0, ()
    seconds = hooks.dtensor_seconds(made.arch, d.tensor, d.sequence, made.work.checkpointing, run.accumulation)
    seconds = seconds / float(value_of(d.pipeline))
    return seconds, (
        f"DTensor's dispatch takes {seconds:.3g} s of the host in a step ({hooks.DTENSOR} us a module and pass, fitted "
        "to three steps of one host with two H200)",
    )


def offload_seconds(
    made: Pass, recipe: Recipe, run: Run, trained: float, total: float, spec: GpuSpec
) -> tuple[float, tuple[str, ...]]:
    """(seconds of a step that an offloaded optimizer adds behind the passes, what is said of it).

    InputError for an offload that the stage does not allow or that was not measured.
    """
    q, d = run.question, run.degrees
    if q.offload == "none":
        return 0.0, ()
    if q.offload not in OFFLOADS or q.offload_to not in TARGETS:
        raise InputError(f"--offload must be {', '.join(OFFLOADS)} and --offload-to {' or '.join(TARGETS)}")
    of = hooks.library(recipe.kind, run.stage)
    if of not in CPU_ADAM or q.offload_to != TARGETS[0]:
        raise InputError(
            f"--offload {q.offload} --offload-to {q.offload_to} under recipe {recipe.name} is not timed: it is under "
            "--recipe deepspeed and FSDP2 (torch-bf16 --stage 3) to the host; llmcalc zero has the bytes"
        )
    if run.stage < allowed(q.offload):
        raise InputError(f"--offload {q.offload} needs --stage {allowed(q.offload)} or more")
    link = spec.pcie_bytes_s
    if link is None:
        raise InputError(f"--offload {q.offload}: {spec.id} has no PCIe rate in its preset")
    shards = float(value_of(d.shards * d.tensor * d.pipeline))
    passes = run.accumulation * (2 if q.offload == "all" else 0)
    moved = HALF * (trained * (run.accumulation + 1) + total * passes) / shards
    stepped = CPU_ADAM[of] * NANO * trained / shards
    return stepped + moved / link, (
        f"--offload {q.offload}: the host steps {trained / shards:,.0f} weights a GPU in {stepped:.3g} s on one thread "
        f"({CPU_ADAM[of]:g} ns each, one measured step; torchrun sets OMP_NUM_THREADS=1), PCIe carries "
        f"{moved / 1e9:.3g} GB, neither beside the passes",
    )
