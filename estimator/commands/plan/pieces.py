"""What a layout of a pre-training run needs and takes, put together from pieces that many layouts share.

A search asks about hundreds of thousands of layouts that differ in few things: what a pipeline stage holds does not
depend on the batch, what its layers keep does not depend on the number of GPUs. Each such piece is computed once, by
the functions that ``memory`` and ``train`` call. Bytes are those of ``memory`` to the byte. Seconds are never more than
``train``'s: ``JUST_BELOW`` covers sums in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from estimator.commands.flops.passes import Pass
from estimator.commands.flops.passes import plan as pass_of
from estimator.commands.train.question import Train
from estimator.commands.train.report import one_pass, run_of
from estimator.commands.train.step import best_seconds, experts, optimizer_bytes, run_once, step_times
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.inventory import total as elements
from estimator.parallel import activations as act
from estimator.parallel.degrees import Degrees
from estimator.parallel.exchange import data_seconds, group_seconds, most_sent, work_of
from estimator.parallel.job import Job, distinct, rank, saved
from estimator.parallel.links import Links, links, node_size
from estimator.parallel.messages import Message
from estimator.parallel.pipeline import Schedule, Stage, schedule, split
from estimator.parallel.recipe import rates
from estimator.presets import load_gpu
from estimator.questions import ask
from estimator.questions.read import recipe_of
from estimator.records import NamedTuple
from estimator.roofline import machine
from estimator.trace import value_of
from estimator.work.times import OPTIMIZER, ROUTING

JUST_BELOW = 1 - 1e-9
ONCE = ("stages", "flying", "bubble", "kept", "saved", "active", "made", "passes", "posted", "sent", "reduced", "whole",
        "updated", "rate")  # fmt: skip
Saved = list[tuple[list[int], int]]
F = TypeVar("F", bound=Callable[..., Any])


class Shape(NamedTuple):
    """A layout but for its card and ZeRO stage: how many GPUs, how divided, the micro-batch and how many of them.

    sequence   Megatron's sequence parallelism
    """

    gpus: int
    tensor: int
    sequence: bool
    context: int
    expert: int
    pipeline: int
    virtual: int
    batch: int
    checkpointing: str
    accumulation: int

    @property
    def shards(self) -> int:
        """GPUs that hold the same part of the model."""
        return self.gpus // (self.tensor * self.pipeline)

    def options(self) -> dict[str, Any]:
        """The options of ``train``."""
        others = {"sequence_parallel": self.sequence, "context_parallel": self.context, "expert_parallel": self.expert}
        virtual = {"schedule": "interleaved", "virtual_stages": self.virtual} if self.virtual > 1 else {}
        return {
            "batch_size": self.batch, "accumulation": self.accumulation, "gpus": self.gpus,
            "tensor_parallel": self.tensor, **{k: n for k, n in others.items() if n > 1 or n is True},
            "pipeline_parallel": self.pipeline, **virtual, "checkpointing": self.checkpointing,
        }  # fmt: skip

    @property
    def words(self) -> str:
        """The layout for a table."""
        parts = [
            f"TP{self.tensor}{'s' if self.sequence else ''}", f"CP{self.context}" if self.context > 1 else "",
            f"EP{self.expert}" if self.expert > 1 else "",
            f"PP{self.pipeline}{f'x{self.virtual}' if self.virtual > 1 else ''}", f"DP{self.shards // self.context}",
            f"b{self.batch}", "ckpt" if self.checkpointing == "full" else "",
        ]  # fmt: skip
        return " ".join(x for x in parts if x)


class Pieces:
    """The pieces of one question: ``base`` has the options that all layouts share."""

    def __init__(self, model: Any, base: dict[str, Any]) -> None:
        self.model, self.base = model, base
        self.q: Train = ask(Train, model, base)
        self.recipe = recipe_of(self.q, [])
        self.optimizer = run_of(self.q, self.recipe, []).optimizer
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

    def needs(self, x: Shape, stages: tuple[int, ...]) -> list[int]:
        """Bytes of the tensors of the most loaded GPU at the peak, as ``memory``, at each ZeRO stage."""
        active = self.active(x.tensor, x.sequence, x.context, *x[5:])
        kept = (self.kept(x.tensor, x.expert, x.pipeline, x.virtual, stage, x.shards) for stage in stages)
        return [max(map(int.__add__, each, active)) for each in kept]

    def seconds(self, x: Shape, stage: int, gpu: str) -> float:
        """Seconds that a step takes at the least."""
        once, waits, host = self.passes(gpu, x.batch, x.checkpointing, x.tensor, x.sequence, x.expert)
        passes = x.accumulation * self.stages(x.pipeline, x.virtual)[2]
        passes *= 1 + self.bubble(x.pipeline, x.virtual, x.accumulation)
        every = self.node(gpu) * x.tensor * x.context * x.expert * x.pipeline  # more GPUs have no other links
        model = x.accumulation * self.sent(gpu, min(x.gpus, every), x[1:9])
        m = x.accumulation if stage > 1 else 1
        data = self.reduced(gpu, x.gpus, x.tensor, x.pipeline, x.expert, stage, m)
        update = self.updated(gpu, x.tensor * x.pipeline * (x.shards if stage else 1))
        device = (once / x.context + waits) * passes + update
        return best_seconds(device, model, data, host * passes) * JUST_BELOW

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

    def kept(self, tensor: int, expert: int, pipeline: int, virtual: int, stage: int, shards: int) -> tuple[int, ...]:
        """Bytes of weights, gradients, states and what is gathered, on each of the stages that differ."""
        stages = self.stages(pipeline, virtual)
        degrees = Degrees(shards * tensor * pipeline, tensor, pipeline, expert=expert)
        work = work_of(1, 1, degrees, True, True)  # what it keeps is counted apart; it says that there is a step
        job = Job(self.arch, None, degrees, self.rates, Schedule("1f1b", 1, 1), (), 1, work)
        ranks = (rank(job, s, stage) for s in stages[1])
        return tuple(int(value_of(r.states + r.gathered)) for r in ranks)

    def active(self, tensor: int, sequence: bool, context: int, pipeline: int, virtual: int, b: int,
               checkpointing: str, m: int) -> tuple[int, ...]:  # fmt: skip
        """Bytes of what micro-batches in flight keep, on each of the stages that differ."""
        flying = self.flying(pipeline, virtual, m)
        found = self.saved(tensor, sequence, context, pipeline, virtual, b, checkpointing)
        return tuple(
            sum(int(act.times(n, x)) for x in each) + once for n, (each, once) in zip(flying, found, strict=True)
        )

    def work(self, degrees: Degrees, b: int, checkpointing: str) -> act.MicroBatch:
        fused = (self.q.attention or "sdpa") == "sdpa"
        return work_of(b, int(self.q.seq_len), degrees, fused, checkpointing == "full")

    def saved(self, tensor: int, sequence: bool, context: int, pipeline: int, virtual: int, b: int,
              checkpointing: str) -> Saved:  # fmt: skip
        """(what each micro-batch in flight keeps, what stands once) on each of the stages that differ."""
        degrees = Degrees(tensor * context, tensor, context=context, sequence=sequence)
        work = self.work(degrees, b, checkpointing)
        found = (saved(self.arch, work, s) for s in self.stages(pipeline, virtual)[1])
        return [([int(n) for _, n in each], sum(int(n) for _, n in once)) for each, once in found]

    def made(self, b: int, checkpointing: str) -> tuple[Pass, Any]:
        """(a pass over one micro-batch, what it runs)."""
        q = replace(self.q, batch_size=b, checkpointing=checkpointing)
        made = pass_of(one_pass(q, self.recipe))
        return made, run_once(made, self.recipe, run_of(q, self.recipe, []), q.dtype)

    def passes(
        self, gpu: str, b: int, checkpointing: str, tensor: int, sequence: bool, expert: int
    ) -> tuple[float, float, float]:
        """Seconds of one micro-batch through all layers: the device, its waits for routing, the host."""
        made, ops = self.made(b, checkpointing)
        q = replace(self.q, gpu=gpu)
        degrees = Degrees(tensor * expert, tensor, expert=expert, sequence=sequence)
        run = replace(run_of(q, self.recipe, []), degrees=degrees, accumulation=1)
        t = step_times(made, self.recipe, run, machine(gpu, q.dtype), q.dtype, ops, waits=True)
        device = sum(float(v) for (what, _), v in t.parts.items() if what not in (OPTIMIZER, ROUTING))
        return device, float(value_of(t.of(ROUTING))), float(t.host)

    def node(self, gpu: str) -> int:
        """Cards that share the fast link."""
        return node_size(self.q.gpus_per_node, load_gpu(gpu))

    def rate(self, gpu: str) -> Links:
        """The links of a card."""
        found = links(load_gpu(gpu), None, None, None, None)
        if not found.known:
            raise InputError(f"{gpu} has no link in its preset")
        return found

    def sent(self, gpu: str, gpus: int, x: tuple[Any, ...]) -> float:
        """Seconds of the collectives of one micro-batch that are not data parallelism's."""
        return sum(group_seconds(self.posted(self.node(gpu), gpus, x), self.rate(gpu)).values())

    def posted(self, node: int, gpus: int, x: tuple[Any, ...]) -> list[Message]:
        """What the stage that sends most sends for one micro-batch; node: cards that share the fast link."""
        tensor, sequence, context, expert, pipeline, virtual, b, checkpointing = x
        degrees = Degrees(gpus, tensor, pipeline, context, expert, sequence, node)
        work = self.work(degrees, b, checkpointing)
        return most_sent(self.arch, degrees, work, 1, virtual, self.stages(pipeline, virtual)[1])

    def reduced(self, gpu: str, gpus: int, tensor: int, pipeline: int, expert: int, stage: int, m: int) -> float:
        """Seconds of the data-parallel collectives of a step."""
        degrees = Degrees(gpus, tensor, pipeline, expert=expert, node=self.node(gpu))
        total, routed = self.whole()
        return data_seconds(degrees, self.recipe.name, stage, m, total, total, self.rate(gpu), routed)

    def whole(self) -> tuple[float, float]:
        """(elements of the model, of them the routed experts')."""
        return float(value_of(elements(self.arch.weights()))), experts(self.made(1, "none")[0])

    def updated(self, gpu: str, shards: int) -> float:
        """Seconds of the optimizer over a share of the weights."""
        made = self.made(1, "none")
        moved = optimizer_bytes(made[0], self.recipe, self.optimizer) / shards
        return float(machine(gpu, self.q.dtype).stream(moved))
