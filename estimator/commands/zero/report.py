"""Memory and communication a GPU: ZeRO's stages, and the parallelism they are combined with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.commands.zero.figure import stages
from estimator.commands.zero.plan import ShardedPlan, plan
from estimator.commands.zero.question import Zero
from estimator.commands.zero.stage import data_transfers, stage_node
from estimator.commands.zero.tables import communication, pipeline, side_by_side
from estimator.errors import InputError
from estimator.fit import NO, Fit, require_fit
from estimator.models import Model
from estimator.parallel.job import Rank, ranks, worst
from estimator.parallel.messages import Message, messages
from estimator.parallel.offload import offloaded
from estimator.parallel.picture import picture
from estimator.parallel.sharding import GRADIENTS, OPTIMIZER, WEIGHTS
from estimator.questions import ask
from estimator.report import Node, Report, Table, Text
from estimator.trace import Traced, value_of, wordless
from estimator.units import BYTES, RATIO, SECONDS


def zero(model: Model | str | None = None, params: Any = None, **options: Any) -> Report:
    """What the most loaded of ``gpus`` GPUs holds and sends. Exactly one of ``model`` and ``params`` is given.

    options: the fields of :class:`~.question.Zero`; sizes may be ints, texts (``7.5e9``) or letters.
    ``seq_len`` adds activations and what the other kinds of parallelism send; ``gpu`` or the rates add times. Raises
    InputError for degrees that do not divide what they shard, DoesNotFit with ``check_fit`` where no stage that is
    shown fits ``memory``.
    """
    q = ask(Zero, model, {**options, "params": params})
    report = answer(q)
    if q.check_fit:
        require_fit(report)
    return report


def answer(q: Zero) -> Report:
    """The report of a question."""
    p = plan(q)
    if p.symbolic:
        _refuse_letters(p)
    if q.check_fit and p.memory is None:
        raise InputError("--check-fit needs --gpu or --memory")
    every = {s: ranks(p.job, s) for s in p.stages}
    nodes = [stage_node(p, s, worst(every[s])) for s in p.stages]
    return _report(q, p, nodes, every)


def _refuse_letters(p: ShardedPlan) -> None:
    """InputError for what has no form in letters: whole tensors are dealt by size, so sizes must be known."""
    if 1 in p.stages and not p.job.rates.flat and p.job.arch is not None:
        asked = "all" if len(p.stages) > 1 else "1"
        raise InputError(
            f"--stage {asked}: recipe {p.job.rates.recipe.name} deals whole tensors to GPUs at stage 1, largest first, "
            "which has no form in letters; use --stage 0, 2 or 3, --recipe zero-paper, or a model of known sizes"
        )


def _report(q: Zero, p: ShardedPlan, nodes: list[Node], every: dict[int, list[Rank]]) -> Report:
    job = p.job
    last = p.stages[-1]
    top = worst(every[last])
    sent = _messages(p, top)
    body: list[Node | Table | Text] = []
    hidden: list[Node] = []
    facts, verdict, fit = _fits(q, p, nodes)
    if len(p.stages) > 1:
        body.append(side_by_side(nodes, p.stages, [facts.get(f"stage{s}.fits") for s in p.stages]))
        hidden += [k for node in nodes for k in node.walk() if k.key]
    else:
        body += nodes
    if value_of(job.degrees.pipeline) > 1 or isinstance(job.degrees.pipeline, Traced):
        body.append(_bubble(p))
        if job.arch is not None and not p.symbolic:
            body.append(pipeline(every[last], job, last))
    if sent:
        body.append(communication(sent, data_transfers(p, last, top), p, last))
        hidden += _message_nodes(sent, p)
    if not p.symbolic and job.adapter is None and not wordless():
        r = job.rates
        widths = {WEIGHTS: r.weight, GRADIENTS: r.gradient, OPTIMIZER: r.optimizer}
        away = {s: offloaded(job.offload, s) for s in p.stages}
        body.append(Text("Who holds what", picture(widths, int(value_of(job.degrees.shards)), p.stages, away)))
    if fit is not None:
        body.append(fit.node())
    title, card = _title(p), p.gpu.id if p.gpu else "a GPU"
    return Report(
        "zero",
        title,
        p.inputs,
        tuple(body),
        facts,
        (*_assumptions(p), *p.said, *p.notes),
        (job.rates.recipe.cite,),
        p.notes,
        p.symbolic,
        hidden=tuple(hidden),
        verdict=verdict,
        figure=lambda: stages(title, dict(zip(p.stages, nodes, strict=True)), p.symbolic, p.memory, card),
    )


def _fits(q: Zero, p: ShardedPlan, nodes: list[Node]) -> tuple[dict[str, Any], str, Fit | None]:
    """(which stages fit, the verdict, its fit): of the first stage that fits, or of the one that needs least."""
    if p.memory is None or p.symbolic:
        return {}, "", None
    card = p.gpu.id if p.gpu else "the GPU"
    simulated = p.gpu is not None and p.job.rates.recipe.kind in ("simulated", "deepspeed") and p.job.work is not None
    fits = {}
    for stage, node in zip(p.stages, nodes, strict=True):
        step = simulated_peak(q, stage) if simulated and p.job.degrees.plain and q.offload == "none" else None
        held = _need(node) if step is None else step
        fits[stage] = Fit(p.need(held), p.memory, card)
    fitting = [s for s in p.stages if fits[s].answer != NO]
    best = fitting[0] if fitting else min(p.stages, key=lambda s: value_of(fits[s].need.best))
    facts = {f"stage{s}.fits": f.answer for s, f in fits.items()} | {"fits": fits[best].answer}
    return facts, "" if wordless() else fits[best].sentence(f"a GPU at stage {best} "), fits[best]


def simulated_peak(q: Zero, stage: int) -> int | None:
    """The peak of a step of the same run as :mod:`estimator.commands.memory.report` simulates it, in bytes; None where
    it refuses the run (an optimizer that DeepSpeed does not bring)."""
    from estimator.commands.memory.needed import needed
    from estimator.commands.memory.plan import plan as step
    from estimator.commands.memory.question import Memory

    asked = Memory(
        model=q.model, mode="training", batch_size=q.batch_size, seq_len=q.seq_len, recipe=q.recipe,
        optimizer=q.optimizer, attention=q.attention, checkpointing=q.checkpointing, gpus=q.gpus, stage=stage,
        gpu=q.gpu,
    )  # fmt: skip
    try:
        return needed(step(asked))
    except InputError:
        return None


def _need(node: Node) -> Any:
    by = {k.key.partition(".")[2]: k.value for k in node.walk() if k.key}
    return value_of(by.get("total_bytes", by["memory_bytes"]))


def _title(p: ShardedPlan) -> str:
    def shown(x: Any) -> str:
        return str(x.expr) if p.symbolic and isinstance(x, Traced) else f"{value_of(x):,}"

    d = p.job.degrees
    names = (("tensor", d.tensor), ("context", d.context), ("expert", d.expert), ("pipeline", d.pipeline))
    split = ", ".join(f"{name} {shown(x)}" for name, x in names if isinstance(x, Traced) or x != 1)
    name = p.name or f"{shown(p.job.params)} parameters"
    return (
        f"{name} on {shown(d.gpus)} GPUs"
        + (f" ({split}, data {shown(d.data)})" if split else "")
        + f", {p.job.rates.recipe.name}"
    )


def _messages(p: ShardedPlan, top: Rank) -> list[Message]:
    job = p.job
    if job.work is None or job.arch is None:
        return []
    return messages(top.stage, job.work, job.degrees, job.micro_batches, job.arch.hidden, job.schedule.chunks)


def _message_nodes(sent: Sequence[Message], p: ShardedPlan) -> list[Node]:
    out = []
    for x in sent:
        out += [
            Node(f"{x.group}.layer_bytes", f"{x.group}: sent in a layer", x.layer, BYTES),
            Node(f"{x.group}.step_bytes", f"{x.group}: sent in a step", x.step, BYTES),
        ]
        seconds = p.links.seconds(value_of(x.step), x.link, x.ports)
        if seconds is not None:
            out.append(Node(f"{x.group}.step_seconds", f"{x.group}: link busy", seconds, SECONDS))
    return out


def _bubble(p: ShardedPlan) -> Node:
    job = p.job
    rows = [Node("pipeline.bubble", "Idle over ideal time", job.schedule.bubble, RATIO, note=job.schedule.name)]
    flying = job.schedule.in_flight(0)
    rows.append(
        Node(
            "pipeline.in_flight",
            "Micro-batches in flight on the first stage",
            flying if not hasattr(flying, "denominator") or flying.denominator == 1 else float(flying),
            RATIO,
        )
    )
    return Node.group("Pipeline", rows)


def _assumptions(p: ShardedPlan) -> list[str]:
    r = p.job.rates
    said = [
        f"recipe {r.recipe.name}: {r.weight} bytes of weight, {r.gradient} of gradient and "
        f"{r.optimizer} of optimizer a parameter"
    ]
    if not r.flat:
        said.append(
            "stage 1 is ZeroRedundancyOptimizer beside DDP's all-reduce; "
            "stages 2 and 3 are FSDP2 without and with resharding"
        )
    if p.job.work is None:
        said.append("buckets and gathered copies are not model states: llmcalc memory --gpus --stage has every buffer")
    d = p.job.degrees
    if not d.plain:
        said.append(
            "ranks in Megatron-LM's order: tensor, context, expert, data, pipeline; "
            "what does not fit a node goes between nodes"
        )
    if value_of(d.tensor) > 1 and p.job.arch is not None:
        said.append(f"the vocabulary is padded to a multiple of {128 * value_of(d.tensor):,} (Megatron-LM)")
    if p.job.arch is not None and p.job.arch.tied and value_of(d.pipeline) > 1:
        said.append("the tied output matrix is a copy of the token table on the last pipeline stage")
    if p.links.known:
        said.append("times are bytes over the link's rate one way: no latency, no overlap")
    return said
