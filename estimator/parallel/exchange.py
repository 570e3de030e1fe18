"""What a training step of a given model sends between its GPUs, and for how long: data, tensor and pipeline parallel.

The collectives are those of ``llmcalc zero``: :func:`estimator.parallel.traffic.transfers` for the data-parallel groups
under a ZeRO stage, :func:`estimator.parallel.messages.messages` for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from estimator.alike import add_up
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.parallel import activations as act
from estimator.parallel.degrees import BETWEEN, INSIDE, Degrees
from estimator.parallel.job import stage_weights
from estimator.parallel.links import GIGA, NETWORK_GBPS, Links, links
from estimator.parallel.messages import messages
from estimator.parallel.pipeline import Schedule, Stage
from estimator.parallel.recipe import rates
from estimator.parallel.sharding import Piece
from estimator.parallel.tensor import Cut
from estimator.parallel.traffic import ALL_GATHER, transfers
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec


@dataclass(frozen=True, slots=True)
class Exchange:
    """Seconds that links are busy in a step: ``data`` can hide behind the backward pass, ``model`` cannot.

    bubble   idle over busy time of a pipeline
    """

    data: float = 0.0
    model: float = 0.0
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
) -> Exchange:
    """The exchange of one step. trained, total: parameters; link: bytes/s one way between any two GPUs, if given;
    plan: of the pipeline's ``stages``."""
    if int(value_of(degrees.gpus)) == 1:
        return Exchange()
    rate = Links({INSIDE: link, BETWEEN: link}) if link else links(spec, None, None, None, None)
    if not rate.known:
        raise InputError(
            f"--gpus {degrees.gpus}: {spec.id} has no link in its preset; give --link in 10^9 bytes/s one way"
        )
    seconds = model_seconds(arch, degrees, work, micro_batches, plan.chunks, stages, rate)
    for s in stages:  # refuses what cannot be divided
        stage_weights(arch, s, work.cut, degrees.pipeline)
    local = degrees.link("data") == INSIDE
    data = data_bytes(degrees, recipe, stage, micro_batches, trained, total, local)
    where = INSIDE if local else BETWEEN
    speed = f"{(rate.rates[where] or 0) / GIGA:g} GB/s one way" + ("" if link else f" {where}")
    notes = [
        f"data parallel over {int(value_of(degrees.data)):,} GPUs, ZeRO stage {stage}: {speed}, hidden behind the "
        "backward pass where it is longer (slower networks: --link)",
    ]
    if not link and int(value_of(degrees.gpus)) > degrees.node:
        notes.append(f"nodes of {degrees.node} GPUs, {NETWORK_GBPS} x 10^9 bits/s a GPU between them (or give --link)")
    if not degrees.plain:
        notes.append(
            f"tensor parallel over {int(value_of(degrees.tensor))}, pipeline ({plan.name}) over "
            f"{int(value_of(degrees.pipeline))}: collectives of llmcalc zero, not overlapped"
        )
    return Exchange(float(rate.seconds(data, where)), seconds, float(plan.bubble), tuple(notes))


def model_seconds(
    arch: Architecture, degrees: Degrees, work: act.MicroBatch, micro_batches: int, chunks: int,
    stages: Sequence[Stage], rate: Links,
) -> float:  # fmt: skip
    """Seconds that the stage which sends most is busy with tensor and pipeline parallelism in a step."""
    sent = max(
        (messages(s, work, degrees, micro_batches, arch.hidden, chunks) for s in stages),
        key=lambda found: add_up(float(value_of(m.step)) for m in found),
    )
    return float(add_up(float(rate.seconds(m.step, m.link)) for m in sent))


def data_bytes(
    degrees: Degrees, recipe: str, stage: int, micro_batches: int, trained: float, total: float, local: bool
) -> Any:
    """Bytes that a GPU sends to its data-parallel peers; frozen weights are only ever gathered."""
    if int(value_of(degrees.shards)) == 1:
        return 0
    parts, found = int(value_of(degrees.tensor * degrees.pipeline)), rates(recipe, "adamw")

    def sent(n: float) -> Any:
        return transfers([Piece("weights", int(n) // parts, degrees.shards)], found, stage, micro_batches, inside=local)

    if stage < 3 or trained == total:
        return sum(t.bytes for t in sent(trained))
    gathered = sum(t.bytes for t in sent(total) if t.op == ALL_GATHER)
    return gathered + sum(t.bytes for t in sent(trained) if t.op != ALL_GATHER)


def work_of(b: Any, s: Any, degrees: Degrees, fused: bool, checkpointing: bool) -> act.MicroBatch:
    """One micro-batch of a training step."""
    cut = Cut(degrees.tensor, degrees.expert)
    recompute = "full" if checkpointing else "none"
    return act.MicroBatch(b, s, cut, degrees.context, degrees.sequence, fused, False, recompute)
