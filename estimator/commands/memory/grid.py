"""``memory`` of a recipe that is an accounting, sharded over many GPUs: the moments of the most loaded one."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from estimator.commands.zero.plan import ShardedPlan as Job
from estimator.commands.zero.plan import plan
from estimator.commands.zero.question import Zero
from estimator.errors import InputError
from estimator.moments import Moment, Outcome
from estimator.optimizers import Trained
from estimator.parallel.job import Rank, ranks, worst
from estimator.parallel.request import zero_stage
from estimator.parallel.sharding import GRADIENTS, WEIGHTS
from estimator.questions.base import COMMON, Given, given
from estimator.questions.parts import Sharded
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.commands.memory.question import Memory

# how the work is shared, beside --gpus and --stage
SHARING = (*(f.name for f in fields(Sharded) if f.name not in (*COMMON, "gpus", "stage")), "micro_batches")


def shared(q: Memory) -> list[Given]:
    """The options of sharing that are not at their defaults."""
    return [f for f in given(q) if f.name in SHARING]


def refuse(q: Memory, recipe: str, taken: tuple[str, ...] = ()) -> None:
    """InputError where a simulated recipe is asked to do more than data parallelism; taken: options that it heeds."""
    for f in shared(q):
        if f.name not in taken:
            raise InputError(f"{f.flag}: {recipe} is simulated without it; use --mode training --recipe megatron")


def sharded(q: Memory, recipe: str, s: Any) -> Job:
    """The job of a memory question whose recipe is an accounting."""
    same = {k: getattr(q, k) for k in (*SHARING, "batch_size", "attention", "checkpointing")}
    stage = zero_stage(0 if q.stage is None else q.stage)
    return plan(
        Zero(
            model=q.model, gpus=1 if q.gpus is None else q.gpus, stage=stage, recipe=recipe,
            optimizer=q.optimizer or "adamw", seq_len=s, derive=q.traced, **same,
        )
    )  # fmt: skip


def most_loaded(p: Job) -> Rank:
    return worst(ranks(p.job, p.stages[0]))


def outcome(p: Job, trained: list[Trained]) -> Outcome:
    """Weights; states and activations; gradients beside them; the update."""
    top = most_loaded(p)
    by = dict(top.kept)
    weights: dict[tuple[str, str], Any] = {("model", k): v for k, v in by.items() if k not in (GRADIENTS, "optimizer")}
    states = weights | {("optimizer", "master weights and states"): by.get("optimizer", 0)}
    whole = states | {("gradients", "all"): by.get(GRADIENTS, 0)}
    active: dict[tuple[str, str], Any] = {("activations", k): v for k, v in top.activations}
    if value_of(top.gathered):
        active["model", "weights of two layers, gathered"] = top.gathered

    def at(key: str, label: str, live: dict[tuple[str, str], Any]) -> Moment:
        total = sum(live.values())
        return Moment(key, label, total, total, live)

    moments = [
        at("moments.load_bytes", "Load", weights),
        at("moments.forward_bytes", "Forward and loss", states | active),
        at("moments.backward_bytes", "Backward", whole | active),
        at("moments.step_bytes", "Optimizer step", whole),
    ]
    return Outcome(moments, by.get(WEIGHTS, 0), by.get("optimizer", 0), by.get(GRADIENTS, 0), trained, weights)
