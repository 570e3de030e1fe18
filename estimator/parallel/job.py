"""A training job on many GPUs: what is asked for, and what the most loaded GPU of it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture, MoE
from estimator.inventory import EXPERT, HEAD, Weight
from estimator.ops import ceil_div, maximum
from estimator.parallel import activations as act
from estimator.parallel import tensor
from estimator.parallel.degrees import Degrees
from estimator.parallel.offload import Moved, allowed, moved
from estimator.parallel.pipeline import Schedule, Stage
from estimator.parallel.recipe import Rates
from estimator.parallel.sharding import EXPERTS, Piece, Share, held, keeps_gathered
from estimator.parallel.traffic import HPZ
from estimator.peft.arguments import TRAINED
from estimator.peft.base import Adapter
from estimator.records import dataclass
from estimator.trace import value_of

GATHERED = "gathered, from forward to backward"
GATHERED_LAYERS = 2  # stage 3: the layer that computes and the one that is gathered ahead


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    arch        None where only a number of parameters is known; params: that number
    stages      pipeline stages (one without an architecture); work: one micro-batch, None where no tokens are given
    largest     parameters of the largest module, 0 where not known
    adapter     what is trained in place of the model, or None
    """

    arch: Architecture | None
    params: Any
    degrees: Degrees
    rates: Rates
    schedule: Schedule
    stages: tuple[Stage, ...]
    micro_batches: Any
    work: act.MicroBatch | None
    offload: str = "none"
    target: str = "cpu"
    zero_pp: tuple[str, ...] = ()
    largest: Any = 0
    adapter: Adapter | None = None

    @property
    def cut(self) -> tensor.Cut:
        return self.degrees.cut


@dataclass(frozen=True, slots=True)
class Rank:
    """The GPU of one pipeline stage at one ZeRO stage.

    held       weights, gradients, optimizer state before anything is offloaded; moved: what offloading makes of it
    kept       on the GPU, by part; activations, by part; gathered: weights of other GPUs alive at once
    """

    stage: Stage
    pieces: tuple[Piece, ...]
    held: list[Share]
    moved: Moved | None
    kept: list[tuple[str, Any]]
    activations: list[tuple[str, Any]] = field(default_factory=list)
    gathered: Any = 0

    @property
    def states(self) -> Any:
        return sum(n for _, n in self.kept)

    @property
    def total(self) -> Any:
        return self.states + sum(n for _, n in self.activations) + self.gathered


def pieces(job: Job, stage: Stage) -> tuple[Piece, ...]:
    """The weights of a pipeline stage on one GPU, dense and expert ones, before ZeRO shards them."""
    d = job.degrees
    if job.arch is None:
        return (Piece("weights", ceil_div(job.params, d.tensor * d.pipeline), d.shards),)
    weights = stage_weights(job.arch, stage, job.cut, d.pipeline)
    if job.adapter is not None:
        return _adapted(job.adapter, weights, d.shards)
    if d.expert == 1 and d.each_expert == d.tensor:
        return (Piece("weights", sum(w.total for w in weights), d.shards, tuple(weights)),)
    dense = tuple(w for w in weights if w.role != EXPERT)
    routed = tuple(w for w in weights if w.role == EXPERT)
    if d.expert != 1 and not any(isinstance(layer.mlp, MoE) for layer in job.arch.layers):
        raise InputError(f"--expert-parallel {value_of(d.expert)}: the model has no experts")
    shared = Piece("dense weights", sum(w.total for w in dense), d.shards, dense)
    return (shared, Piece(EXPERTS, sum(w.total for w in routed), d.expert_shards, routed)) if routed else (shared,)


def _adapted(adapter: Adapter, weights: list[Weight], shards: Any) -> tuple[Piece, ...]:
    """The model as it is, and what trains: the adapter's tensors and those of the model that it unfreezes.

    Where it unfreezes some, the frozen rest is taken to be shared out evenly.
    """
    added = [t for t in adapter.tensors if t.state == TRAINED]
    trained = tuple(Weight(f"{t.module}.{t.name}", t.shape, t.times) for t in (*added, *adapter.unfrozen))
    frozen = sum(w.total for w in weights) - sum(t.elements for t in adapter.unfrozen) + adapter.frozen
    whole = tuple(weights) if not adapter.unfrozen and not value_of(adapter.frozen) else ()
    return (
        Piece("frozen weights", frozen, shards, whole, trains=False),
        Piece("the adapter" if added else "trained weights", adapter.trained, shards, trained),
    )


def stage_weights(arch: Architecture, stage: Stage, cut: tensor.Cut, stages: Any) -> list[Weight]:
    """Every weight of one pipeline stage; a tied output matrix is a copy of the token table on the last stage.

    transformers ties the head of every T5, whatever the config says.
    """
    out = tensor.first(arch, cut) if stage.first else []
    for layer, count in stage.layers:
        times = 1 if layer.shared else count
        out += [Weight(w.name, w.shape, times * w.times, w.role) for w in tensor.layer(layer, cut)]
    if stage.last:
        out += [w for w in tensor.last(arch, cut) if not (arch.always_tied and w.role == HEAD)]
        if (arch.tied or arch.always_tied) and stages != 1:
            out += tensor.token_table(arch, cut)
    return out


def rank(job: Job, stage: Stage, zero: int) -> Rank:
    """What the GPU of ``stage`` holds at ZeRO stage ``zero``."""
    parts = pieces(job, stage)
    rows = held(parts, job.rates, zero)
    out: Moved | None = None
    kept = [(h.part, h.bytes) for h in rows]
    if job.offload != "none" and zero >= allowed(job.offload):
        out = moved(rows, job.rates, job.offload, job.largest, job.micro_batches)
        kept = out.gpu
    if keeps_gathered(job.rates, zero, job.degrees.shards):
        kept = [*kept, (GATHERED, sum(job.rates.gathered * p.elements for p in parts))]
    if zero == 3 and HPZ in job.zero_pp:
        kept = [
            *kept,
            (
                "a node's copy of the weights",
                sum(job.rates.gathered * ceil_div(p.elements, job.degrees.node) for p in parts),
            ),
        ]
    gathered: Any = 0
    if zero == 3 and job.arch is not None and job.work is not None and (job.degrees.shards != 1):
        layer = _widest([sum(w.total for w in tensor.layer(g, job.cut)) for g, _ in stage.layers])
        gathered = GATHERED_LAYERS * job.rates.gathered * layer
    return Rank(stage, parts, rows, out, kept, activations(job, stage), gathered)


def activations(job: Job, stage: Stage) -> list[tuple[str, Any]]:
    """What the micro-batches in flight on this stage keep for their backward passes."""
    if job.work is None or job.arch is None:
        return []
    flying = job.schedule.in_flight(stage.index)
    each, once = saved(job.arch, job.work, stage)
    return [*((what, act.times(flying, n)) for what, n in each), *once]


Saved = list[tuple[str, Any]]


def saved(arch: Architecture, w: act.MicroBatch, stage: Stage) -> tuple[Saved, Saved]:
    """Bytes that a stage keeps of each micro-batch in flight, and those that stand once, by part."""
    d = arch.hidden
    each: Saved = [("saved by the layers", sum(count * act.layer_bytes(g, w, d) for g, count in stage.layers))]
    if w.dropout and stage.first:
        each.append(("embedding's dropout mask", ceil_div(w.tokens * d, w.norm_part)))
    once: Saved = []
    if w.recompute == "full":
        plain = act.MicroBatch(w.b, w.s, w.cut, w.context, w.sequence, w.fused, w.dropout)
        once.append(("one layer, recomputed", _widest([act.layer_bytes(g, plain, d) for g, _ in stage.layers])))
    if stage.last and arch.has_head:
        once.append(("final norm, output matrix and fp32 logits", act.last_bytes(w, d, w.cut.vocabulary(arch.vocab))))
    return each, once


def _widest(layers: list[Any]) -> Any:
    """The largest of a stage's layers; 0 of a stage that has an end of the model alone."""
    return maximum(*layers) if layers else 0


def worst(ranks: Sequence[Rank]) -> Rank:
    """The most loaded one; the first of equals."""
    return max(ranks, key=lambda r: value_of(r.total))


def ranks(job: Job, zero: int) -> list[Rank]:
    """One GPU of each pipeline stage that differs from the one before it."""
    return [rank(job, s, zero) for s in distinct(job.stages)]


def distinct(stages: Sequence[Stage]) -> list[Stage]:
    """The pipeline stages that differ from the one before them."""
    return [s for s in stages if s.index < 2 or s.last or s.layers != stages[s.index - 1].layers]
