"""What a layout of a pre-training run needs and takes, put together from pieces that many layouts share.

A search asks about tens of thousands of layouts that differ in few things: what a pipeline stage holds does not depend
on the batch, what its layers keep does not depend on the number of GPUs. Each such piece is computed once, by the
functions that ``memory`` and ``train`` call. Bytes are those of ``memory`` to the byte. Seconds are never more than
``train``'s: what the host launches is left out, and ``JUST_BELOW`` covers sums in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, TypeVar

from estimator.commands.flops.passes import Pass
from estimator.commands.flops.passes import plan as pass_of
from estimator.commands.train.question import Train
from estimator.commands.train.report import one_pass, run_of
from estimator.commands.train.step import best_seconds, optimizer_bytes, run_once, step_times
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.inventory import total as elements
from estimator.parallel import activations as act
from estimator.parallel.degrees import BETWEEN, INSIDE, Degrees
from estimator.parallel.exchange import data_bytes, model_seconds, work_of
from estimator.parallel.job import Job, distinct, rank, saved
from estimator.parallel.links import links
from estimator.parallel.pipeline import Schedule, Stage, schedule, split
from estimator.parallel.recipe import rates
from estimator.presets import load_gpu
from estimator.questions import ask
from estimator.questions.read import recipe_of
from estimator.roofline import machine
from estimator.trace import value_of
from estimator.work.times import OPTIMIZER

JUST_BELOW = 1 - 1e-9
ONCE = ("stages", "flying", "bubble", "kept", "saved", "active", "made", "passes", "sent", "reduced", "updated")
Saved = list[tuple[list[int], int]]
F = TypeVar("F", bound=Callable[..., Any])


class Shape(NamedTuple):
    """A layout but for its card and ZeRO stage: how many GPUs, how divided, the micro-batch and how many of them."""

    gpus: int
    tensor: int
    pipeline: int
    virtual: int
    batch: int
    checkpointing: str
    accumulation: int

    @property
    def parts(self) -> int:
        """GPUs that share one copy of the model."""
        return self.tensor * self.pipeline

    def options(self) -> dict[str, Any]:
        """The options of ``train``."""
        virtual = {"schedule": "interleaved", "virtual_stages": self.virtual} if self.virtual > 1 else {}
        return {
            "batch_size": self.batch, "accumulation": self.accumulation, "gpus": self.gpus,
            "tensor_parallel": self.tensor, "pipeline_parallel": self.pipeline, **virtual,
            "checkpointing": self.checkpointing,
        }  # fmt: skip

    @property
    def words(self) -> str:
        """The layout for a table."""
        virtual = f"x{self.virtual}" if self.virtual > 1 else ""
        again = " ckpt" if self.checkpointing == "full" else ""
        return f"TP{self.tensor} PP{self.pipeline}{virtual} DP{self.gpus // self.parts} b{self.batch}{again}"


class Pieces:
    """The pieces of one question: ``base`` has the options that all layouts share."""

    def __init__(self, model: Any, base: dict[str, Any]) -> None:
        self.model, self.base = model, base
        self.q: Train = ask(Train, model, base)
        self.recipe = recipe_of(self.q, [])
        self.optimizer = run_of(self.q, []).optimizer
        self.rates = rates(self.recipe.name, self.optimizer)
        self.arch: Architecture = model.architecture
        for name in ONCE:
            setattr(self, name, self._once(getattr(self, name)))

    def _once(self, of: F) -> F:
        """``of``, computed once for each set of operands; an InputError is remembered and raised again."""

        @cache
        def found(*operands: Any) -> Any:
            try:
                return of(*operands)
            except InputError as error:
                return error

        def raised(*operands: Any) -> Any:
            value = found(*operands)
            if isinstance(value, InputError):
                raise value
            return value

        return raised  # type: ignore[return-value]

    def need(self, x: Shape, stage: int) -> int:
        """Bytes of the tensors of the most loaded GPU at the peak, as ``memory``."""
        kept = self.kept(x.tensor, x.pipeline, x.virtual, stage, x.gpus // x.parts)
        active = self.active(x.tensor, x.pipeline, x.virtual, x.batch, x.checkpointing, x.accumulation)
        return max(map(int.__add__, kept, active))

    def seconds(self, x: Shape, stage: int, gpu: str) -> float:
        """Seconds that a step takes at the least."""
        one = self.passes(gpu, x.batch, x.checkpointing, x.tensor)
        model = self.sent(gpu, x[:6])
        stages, bubble = self.stages(x.pipeline, x.virtual), self.bubble(x.pipeline, x.virtual, x.accumulation)
        data = self.reduced(gpu, x.gpus, x.tensor, x.pipeline, stage, x.accumulation if stage > 1 else 1)
        busy = one * x.accumulation * stages[2] * (1 + bubble)
        device = busy + self.updated(gpu, x.parts * (x.gpus // x.parts if stage else 1))
        return best_seconds(device, model * x.accumulation, data, 0.0) * JUST_BELOW

    def stages(self, pipeline: int, virtual: int) -> tuple[list[Stage], list[Stage], float]:
        """(all pipeline stages, those that differ, the share of the layers that the longest holds)."""
        found = split(self.arch, pipeline, virtual, self.q.pipeline_split)
        counts = [float(value_of(s.count)) for s in found]
        return found, distinct(found), max(counts) / sum(counts)

    def plan(self, pipeline: int, virtual: int, m: int) -> Schedule:
        return schedule("interleaved" if virtual > 1 else "1f1b", pipeline, m, virtual)

    def bubble(self, pipeline: int, virtual: int, m: int) -> float:
        """Idle over busy time of the pipeline."""
        return float(self.plan(pipeline, virtual, m).bubble)

    def flying(self, pipeline: int, virtual: int, m: int) -> tuple[Any, ...]:
        """Micro-batches in flight on each of the stages that differ."""
        plan = self.plan(pipeline, virtual, m)
        return tuple(plan.in_flight(s.index) for s in self.stages(pipeline, virtual)[1])

    def kept(self, tensor: int, pipeline: int, virtual: int, stage: int, shards: int) -> tuple[int, ...]:
        """Bytes of weights, gradients, states and what is gathered, on each of the stages that differ."""
        stages = self.stages(pipeline, virtual)
        degrees = Degrees(shards * tensor * pipeline, tensor, pipeline)
        work = work_of(1, 1, degrees, True, True)  # what it keeps is counted apart; it says that there is a step
        job = Job(self.arch, None, degrees, self.rates, Schedule("1f1b", 1, 1), (), 1, work)
        ranks = (rank(job, s, stage) for s in stages[1])
        return tuple(int(value_of(r.states + r.gathered)) for r in ranks)

    def active(self, tensor: int, pipeline: int, virtual: int, b: int, checkpointing: str, m: int) -> tuple[int, ...]:
        """Bytes of what micro-batches in flight keep, on each of the stages that differ."""
        flying, found = self.flying(pipeline, virtual, m), self.saved(tensor, pipeline, virtual, b, checkpointing)
        return tuple(
            sum(int(act.times(n, x)) for x in each) + once for n, (each, once) in zip(flying, found, strict=True)
        )

    def work(self, tensor: int, b: int, checkpointing: str) -> act.MicroBatch:
        fused = (self.q.attention or "sdpa") == "sdpa"
        return work_of(b, int(self.q.seq_len), Degrees(tensor, tensor), fused, checkpointing == "full")

    def saved(self, tensor: int, pipeline: int, virtual: int, b: int, checkpointing: str) -> Saved:
        """(what each micro-batch in flight keeps, what stands once) on each of the stages that differ."""
        stages, work = self.stages(pipeline, virtual), self.work(tensor, b, checkpointing)
        found = (saved(self.arch, work, s) for s in stages[1])
        return [([int(n) for _, n in each], sum(int(n) for _, n in once)) for each, once in found]

    def made(self, b: int, checkpointing: str) -> tuple[Pass, Any]:
        """(a pass over one micro-batch, what it runs)."""
        q = replace(self.q, batch_size=b, checkpointing=checkpointing)
        made = pass_of(one_pass(q))
        return made, run_once(made, self.recipe, run_of(q, []), q.dtype)

    def passes(self, gpu: str, b: int, checkpointing: str, tensor: int) -> float:
        """Seconds of the device for one micro-batch through all layers."""
        made, ops = self.made(b, checkpointing)
        q = replace(self.q, gpu=gpu)
        run = replace(run_of(q, []), degrees=Degrees(tensor, tensor), accumulation=1)
        t = step_times(made, self.recipe, run, machine(gpu, q.dtype), q.dtype, ops)
        return float(sum(v for (what, _), v in t.parts.items() if what != OPTIMIZER))

    def sent(self, gpu: str, x: tuple[Any, ...]) -> float:
        """Seconds of the tensor- and pipeline-parallel collectives of one micro-batch."""
        gpus, tensor, pipeline, virtual, b, checkpointing = x
        stages = self.stages(pipeline, virtual)
        rate = links(load_gpu(gpu), None, None, None, None)
        if not rate.known:
            raise InputError(f"{gpu} has no link in its preset")
        work = self.work(tensor, b, checkpointing)
        return model_seconds(self.arch, Degrees(gpus, tensor, pipeline), work, 1, virtual, stages[1], rate)

    def reduced(self, gpu: str, gpus: int, tensor: int, pipeline: int, stage: int, m: int) -> float:
        """Seconds of the data-parallel collectives of a step."""
        degrees, total = Degrees(gpus, tensor, pipeline), float(value_of(elements(self.arch.weights())))
        local = degrees.link("data") == INSIDE
        sent = data_bytes(degrees, self.recipe.name, stage, m, total, total, local)
        return float(links(load_gpu(gpu), None, None, None, None).seconds(sent, INSIDE if local else BETWEEN))

    def updated(self, gpu: str, shards: int) -> float:
        """Seconds of the optimizer over a share of the weights."""
        made = self.made(1, "none")
        moved = optimizer_bytes(made[0], self.recipe, self.optimizer) / shards
        return float(machine(gpu, self.q.dtype).stream(moved))
