"""What a run needs on the GPU that holds most of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from estimator.commands.memory.plan import MemoryPlan, simulate
from estimator.commands.memory.sharding import DEEPSPEED
from estimator.moments import Outcome, Workload, training
from estimator.moments.repeated import run_key
from estimator.ops import maximum
from estimator.same import Alike, Answered
from estimator.stack.kernels import HOPPER, GpuKernels
from estimator.trace import value_of

Spent = Callable[[int], None] | None


def fullest(p: MemoryPlan, shown: Outcome) -> Any:
    """Bytes of the GPU that holds most at its peak; shown: the run of the one whose moments are shown."""
    return maximum(*(x.worst.total(p.traced) for x in _runs(p, shown)))


def _runs(p: MemoryPlan, shown: Outcome) -> list[Outcome]:
    """The runs of the GPUs that may hold most."""
    if runs_of(p) == 1:
        return [shown]
    return [shown, training(p.share, as_run(p, replace(p.load, last=True)))]


def runs_of(p: MemoryPlan) -> int:
    """How many GPUs may hold most: the first, and the last where DeepSpeed deals a flat vector."""
    load = p.load
    return 1 if p.grid is not None or load.sharder != DEEPSPEED or load.stage not in (1, 2) or load.gpus == 1 else 2


def as_run(p: MemoryPlan, load: Workload) -> Workload:
    """One run for DeepSpeed's stages 1 and 2 where they hold the same."""
    if load.sharder != DEEPSPEED or load.stage != 2:
        return load
    from estimator.parallel.zero_standing import alike

    return replace(load, stage=1) if alike(p.share, load, p.params) else load


def needed(p: MemoryPlan, card: GpuKernels | None = None, spent: Spent = None) -> int:
    """Bytes of tensors that the run needs on its fullest GPU; card: in place of the plan's.

    A planner asks for the same step on many cards. It is run once for those that say the same where it asks
    (``Outcome.asked``), of whatever size cuBLAS's workspaces are: they stand all through a step. spent: is told the
    operations that such a run recorded.
    """
    p = p if card is None else replace(p, load=replace(p.load, card=card))
    load, card = as_run(p, p.load), p.load.card
    if p.mode != "training" or p.grid is not None or p.recipe.kind not in ("simulated", DEEPSPEED):
        return int(value_of(fullest(p, simulate(p))))
    # a stage of a pipeline does not say what it asks
    key = run_key(p.share, replace(load, card=HOPPER if load.pipe is None else replace(card, workspace=0)))
    known: Answered[int] = Answered() if key is None else _known(Alike(load, key))
    workspaces = load.threads * card.workspace
    if (peak := known.known(partial(getattr, card))) is not None:
        return peak + workspaces
    runs = _runs(p, simulate(replace(p, load=load)))
    if spent is not None:
        spent(sum(x.operations for x in runs))
    peak = max(int(value_of(x.worst.peak)) for x in runs)
    known.keep({k: v for x in runs for k, v in x.asked.items() if k != "workspace"}, peak - workspaces)
    return peak


@lru_cache(maxsize=256)
def _known(run: Alike[Workload]) -> Answered[int]:
    """Bytes at most, for each way in which cards answer what the run asks of them."""
    return Answered()
