"""Memory and communication a GPU: ZeRO's stages, and the parallelism they are combined with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import DoesNotFit, InputError
from estimator.estimates.zero_plan import Plan, plan
from estimator.estimates.zero_stage import data_transfers, stage_node
from estimator.estimates.zero_tables import communication, pipeline, side_by_side
from estimator.models import Model
from estimator.parallel.job import Rank, ranks, worst
from estimator.parallel.messages import Message, messages
from estimator.parallel.offload import offloaded
from estimator.parallel.picture import picture
from estimator.parallel.sharding import GRADIENTS, OPTIMIZER, WEIGHTS
from estimator.report import Node, Report, Table, Text
from estimator.trace import Traced, value_of
from estimator.units import BYTES, RATIO, SECONDS, human


def zero(
    model: Model | None = None,
    params: Any = None,
    *,
    gpus: Any = 8,
    stage: Any = "all",
    recipe: str = "zero-paper",
    optimizer: str = "adamw",
    offload: str = "none",
    offload_to: str = "cpu",
    zero_pp: str = "",
    micro_batches: Any = 1,
    tensor_parallel: Any = 1,
    pipeline_parallel: Any = 1,
    context_parallel: Any = 1,
    expert_parallel: Any = 1,
    sequence_parallel: bool = False,
    schedule: str = "1f1b",
    virtual_stages: int = 1,
    pipeline_split: str = "even",
    batch_size: Any = 1,
    seq_len: Any = None,
    attention: str = "sdpa",
    checkpointing: str = "none",
    dropout: bool = False,
    gpus_per_node: int = 8,
    largest_layer: Any = None,
    gpu: str | None = None,
    memory: str | None = None,
    link_gbps: str | None = None,
    network_gbps: str | None = None,
    pcie_gbps: str | None = None,
    nvme_gbps: str | None = None,
    check_fit: bool = False,
    derive: bool = False,
) -> Report:
    """What the most loaded of ``gpus`` GPUs holds and sends. Exactly one of ``model`` and ``params`` is given.

    Sizes may be ints, texts (``7.5e9``) or letters. ``seq_len`` adds activations and what the other kinds of
    parallelism send; ``gpu`` or the rates add times. Raises InputError for degrees that do not divide what they
    shard, DoesNotFit with ``check_fit`` where no stage that is shown fits ``memory``.
    """
    p = plan(
        model,
        params,
        gpus=gpus,
        stage=stage,
        recipe=recipe,
        optimizer=optimizer,
        offload=offload,
        offload_to=offload_to,
        zero_pp=zero_pp,
        micro_batches=micro_batches,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        context_parallel=context_parallel,
        expert_parallel=expert_parallel,
        sequence_parallel=sequence_parallel,
        schedule_name=schedule,
        virtual_stages=virtual_stages,
        pipeline_split=pipeline_split,
        batch_size=batch_size,
        seq_len=seq_len,
        attention=attention,
        checkpointing=checkpointing,
        dropout=dropout,
        gpus_per_node=gpus_per_node,
        largest_layer=largest_layer,
        gpu=gpu,
        memory=memory,
        link_gbps=link_gbps,
        network_gbps=network_gbps,
        pcie_gbps=pcie_gbps,
        nvme_gbps=nvme_gbps,
        derive=derive,
    )
    if check_fit and p.memory is None:
        raise InputError("--check-fit needs --gpu or --memory")
    every = {s: ranks(p.job, s) for s in p.stages}
    nodes = [stage_node(p, s, worst(every[s])) for s in p.stages]
    report = _report(p, nodes, every)
    if check_fit and not any(report.facts[f"stage{s}.fits"] for s in p.stages):
        raise DoesNotFit(
            f"no stage fits {human(p.memory or 0, BYTES)}: the least is {human(min(_need(n) for n in nodes), BYTES)}"
        )
    return report


def _report(p: Plan, nodes: list[Node], every: dict[int, list[Rank]]) -> Report:
    job = p.job
    last = p.stages[-1]
    top = worst(every[last])
    sent = _messages(p, top)
    body: list[Node | Table | Text] = []
    hidden: list[Node] = []
    if len(p.stages) > 1:
        body.append(side_by_side(nodes, p.stages))
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
    if not p.symbolic:
        r = job.rates
        widths = {WEIGHTS: r.weight, GRADIENTS: r.gradient, OPTIMIZER: r.optimizer}
        away = {s: offloaded(job.offload, s) for s in p.stages}
        body.append(Text("Who holds what", picture(widths, int(value_of(job.degrees.shards)), p.stages, away)))
    facts = {f"stage{s}.fits": _need(n) <= p.memory for s, n in zip(p.stages, nodes, strict=True)} if p.memory else {}
    return Report(
        "zero",
        _title(p),
        p.inputs,
        tuple(body),
        facts,
        (*_assumptions(p), *p.said, *p.notes),
        (job.rates.recipe.cite,),
        p.notes,
        p.symbolic,
        hidden=tuple(hidden),
    )


def _need(node: Node) -> int:
    by = {k.key.partition(".")[2]: k.value for k in node.walk() if k.key}
    return int(value_of(by.get("total_bytes", by["memory_bytes"])))


def _title(p: Plan) -> str:
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


def _messages(p: Plan, top: Rank) -> list[Message]:
    job = p.job
    if job.work is None or job.arch is None:
        return []
    return messages(top.stage, job.work, job.degrees, job.micro_batches, job.arch.hidden, job.schedule.chunks)


def _message_nodes(sent: Sequence[Message], p: Plan) -> list[Node]:
    out = []
    for x in sent:
        out += [
            Node(f"{x.group}.layer_bytes", f"{x.group}: sent in a layer", x.layer, BYTES),
            Node(f"{x.group}.step_bytes", f"{x.group}: sent in a step", x.step, BYTES),
        ]
        seconds = p.links.seconds(value_of(x.step), x.link)
        if seconds is not None:
            out.append(Node(f"{x.group}.step_seconds", f"{x.group}: link busy", seconds, SECONDS))
    return out


def _bubble(p: Plan) -> Node:
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


def _assumptions(p: Plan) -> list[str]:
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
