"""What a training step of a given model sends between its GPUs, and for how long: data, tensor and pipeline parallel.

The collectives are those of ``llmcalc zero``: :func:`estimator.parallel.traffic.transfers` for the data-parallel groups
under a ZeRO stage, :func:`estimator.parallel.messages.messages` for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from estimator.alike import add_up
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.parallel import activations as act
from estimator.parallel.degrees import BETWEEN, INSIDE, Degrees
from estimator.parallel.job import stage_weights
from estimator.parallel.links import GIGA, NETWORK_GBPS, Links, links
from estimator.parallel.messages import Message, messages
from estimator.parallel.pipeline import Schedule, Stage
from estimator.parallel.recipe import rates
from estimator.parallel.sharding import EXPERTS, Piece
from estimator.parallel.traffic import ALL_GATHER, Transfer, transfers
from estimator.records import dataclass
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec


@dataclass(frozen=True, slots=True)
class Exchange:
    """Seconds that links are busy in a step: ``data`` can hide behind the backward pass, ``model`` cannot.

    tensor   of ``model``, the tensor-parallel group's; bubble: idle over busy time of a pipeline
    """

    data: float = 0.0
    model: float = 0.0
    tensor: float = 0.0
    bubble: float = 0.0
    notes: tuple[str, ...] = ()


def exchange(
    arch: Architecture,
    degrees: Degrees,
    recipe: str,
    stage: int,
    micro_batches: int,
    work: act.MicroBatch,
    trained: float,
    total: float,
    spec: GpuSpec,
    link: float | None,
    plan: Schedule,
    stages: list[Stage],
    experts: float = 0.0,
) -> Exchange:
    """The exchange of one step. trained, total: parameters, experts of them; link: bytes/s one way between any two
    GPUs, if given; plan: of the pipeline's ``stages``."""
    if int(value_of(degrees.gpus)) == 1:
        return Exchange()
    rate = Links({INSIDE: link, BETWEEN: link}) if link else links(spec, None, None, None, None)
    if not rate.known:
        raise InputError(
            f"--gpus {degrees.gpus}: {spec.id} has no link in its preset; give --link in 10^9 bytes/s one way"
        )
    groups = group_seconds(most_sent(arch, degrees, work, micro_batches, plan.chunks, stages), rate)
    for s in stages:  # refuses what cannot be divided
        stage_weights(arch, s, work.cut, degrees.pipeline)
    busy = data_seconds(degrees, recipe, stage, micro_batches, trained, total, rate, experts)
    where = degrees.link("data")
    speed = f"{(rate.rate(where, degrees.ports('data')) or 0) / GIGA:g} GB/s one way" + ("" if link else f" {where}")
    notes = [
        f"data parallel over {int(value_of(degrees.data)):,} GPUs, ZeRO stage {stage}: {speed}, hidden behind the "
        "backward pass where it is longer (slower networks: --link)",
    ]
    if not link and int(value_of(degrees.gpus)) > degrees.node:
        notes.append(
            f"nodes of {degrees.node} GPUs, {NETWORK_GBPS} x 10^9 bits/s a GPU between them; a ring's bytes are shared "
            "out among its GPUs' ports, as NCCL does (or give --link)"
        )
    if not degrees.plain:
        others = "".join(
            f", {name} over {n}" for name in ("context", "expert") if (n := int(value_of(getattr(degrees, name)))) != 1
        )
        notes.append(
            f"tensor parallel over {int(value_of(degrees.tensor))}, pipeline ({plan.name}) over "
            f"{int(value_of(degrees.pipeline))}{others}: collectives of llmcalc zero, not overlapped unless told"
        )
    return Exchange(busy, float(add_up(groups.values())), groups.get("tensor", 0.0), float(plan.bubble), tuple(notes))


def most_sent(
    arch: Architecture, degrees: Degrees, work: act.MicroBatch, micro_batches: int, chunks: int,
    stages: Sequence[Stage],
) -> list[Message]:  # fmt: skip
    """All but data parallelism's of the stage that sends most in a step."""
    return max(
        (messages(s, work, degrees, micro_batches, arch.hidden, chunks) for s in stages),
        key=lambda found: add_up(float(value_of(m.step)) for m in found),
    )


def group_seconds(sent: Sequence[Message], rate: Links) -> dict[str, float]:
    """Seconds that links are busy by the group that sends: tensor, context, expert, pipeline."""
    return {m.group: float(rate.seconds(m.step, m.link, m.ports)) * m.crossing for m in sent}


def data_seconds(
    degrees: Degrees, recipe: str, stage: int, micro_batches: int, trained: float, total: float, rate: Links,
    experts: float = 0.0,
) -> float:  # fmt: skip
    """Seconds that a GPU sends to its data-parallel peers; frozen weights are only ever gathered.

    experts: parameters that expert parallelism divides too
    """
    if int(value_of(degrees.shards)) == 1:
        return 0.0
    parts, found = int(value_of(degrees.tensor * degrees.pipeline)), rates(recipe, "adamw")
    apart = int(value_of(degrees.each_expert * degrees.pipeline * degrees.expert))

    def sent(n: float) -> list[Transfer]:
        routed = int(experts) if apart != parts and n > experts else 0
        pieces = [Piece("weights", (int(n) - routed) // parts, degrees.shards)]
        if routed:
            pieces.append(Piece(EXPERTS, routed // apart, degrees.expert_shards))
        return transfers(pieces, found, stage, micro_batches, degrees=degrees)

    told = sent(trained)
    if stage == 3 and trained != total:
        told = [t for t in sent(total) if t.op == ALL_GATHER] + [t for t in told if t.op != ALL_GATHER]
    return float(add_up(rate.seconds(int(t.bytes), t.link, t.ports) for t in told))


def work_of(b: Any, s: Any, degrees: Degrees, fused: bool, checkpointing: bool) -> act.MicroBatch:
    """One micro-batch of a training step."""
    recompute = "full" if checkpointing else "none"
    return act.MicroBatch(b, s, degrees.cut, degrees.context, degrees.sequence, fused, False, recompute)
