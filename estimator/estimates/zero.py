"""Memory and communication a GPU: ZeRO's stages, and the parallelism they are combined with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import DoesNotFit, InputError
from estimator.estimates.zero_plan import MOST_PARAMS, Plan, plan
from estimator.estimates.zero_tables import communication, pipeline, side_by_side
from estimator.models import Model
from estimator.parallel import deepspeed
from estimator.parallel.degrees import INSIDE
from estimator.parallel.job import Rank, rank, ranks, worst
from estimator.parallel.links import DISK, HOST
from estimator.parallel.messages import Message, messages
from estimator.parallel.offload import allowed
from estimator.parallel.picture import picture
from estimator.parallel.sharding import GRADIENTS, OPTIMIZER, WEIGHTS, Held
from estimator.parallel.traffic import Transfer, transfers
from estimator.report import Node, Report, Table, Text
from estimator.trace import Traced, value_of
from estimator.units import BYTES, COUNT, ELEMENTS, PARAMS, RATIO, SECONDS, human

LABELS = {WEIGHTS: "Weights", GRADIENTS: "Gradients", OPTIMIZER: "Optimizer"}


def zero(
    model: Model | None = None, params: Any = None, *, gpus: Any = 8, stage: Any = "all", recipe: str = "zero-paper",
    optimizer: str = "adamw", offload: str = "none", offload_to: str = "cpu", zero_pp: str = "", micro_batches: Any = 1,
    tensor_parallel: Any = 1, pipeline_parallel: Any = 1, context_parallel: Any = 1, expert_parallel: Any = 1,
    sequence_parallel: bool = False, schedule: str = "1f1b", virtual_stages: int = 1, pipeline_split: str = "even",
    batch_size: Any = 1, seq_len: Any = None, attention: str = "sdpa", checkpointing: str = "none", dropout: bool = False,
    gpus_per_node: int = 8, largest_layer: Any = None, gpu: str | None = None, memory: str | None = None,
    link_gbps: str | None = None, network_gbps: str | None = None, pcie_gbps: str | None = None, nvme_gbps: str | None = None,
    check_fit: bool = False, derive: bool = False,
) -> Report:  # fmt: skip
    """What the most loaded of ``gpus`` GPUs holds and sends. Exactly one of ``model`` and ``params`` is given.

    Sizes may be ints, texts (``7.5e9``) or letters. ``seq_len`` adds activations and what the other kinds of
    parallelism send; ``gpu`` or the rates add times. Raises InputError for degrees that do not divide what they
    shard, DoesNotFit with ``check_fit`` where no stage that is shown fits ``memory``.
    """
    p = plan(
        model, params, gpus=gpus, stage=stage, recipe=recipe, optimizer=optimizer, offload=offload, offload_to=offload_to,
        zero_pp=zero_pp, micro_batches=micro_batches, tensor_parallel=tensor_parallel, pipeline_parallel=pipeline_parallel,
        context_parallel=context_parallel, expert_parallel=expert_parallel, sequence_parallel=sequence_parallel,
        schedule_name=schedule, virtual_stages=virtual_stages, pipeline_split=pipeline_split, batch_size=batch_size,
        seq_len=seq_len, attention=attention, checkpointing=checkpointing, dropout=dropout, gpus_per_node=gpus_per_node,
        largest_layer=largest_layer, gpu=gpu, memory=memory, link_gbps=link_gbps, network_gbps=network_gbps,
        pcie_gbps=pcie_gbps, nvme_gbps=nvme_gbps, derive=derive,
    )  # fmt: skip
    if check_fit and p.memory is None:
        raise InputError("--check-fit needs --gpu or --memory")
    every = {s: ranks(p.job, s) for s in p.stages}
    nodes = [_stage(p, s, worst(every[s])) for s in p.stages]
    report = _report(p, nodes, every)
    if check_fit and not any(report.facts[f"stage{s}.fits"] for s in p.stages):
        raise DoesNotFit(f"no stage fits {human(p.memory or 0, BYTES)}: the least is {human(min(_need(n) for n in nodes), BYTES)}")
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
        body.append(communication(sent, _transfers(p, last, top), p, last))
        hidden += _message_nodes(sent, p)
    if not p.symbolic:
        r = job.rates
        widths = {WEIGHTS: r.weight, GRADIENTS: r.gradient, OPTIMIZER: r.optimizer}
        body.append(Text("Who holds what", picture(widths, int(value_of(job.degrees.shards)), p.stages)))
    facts = {f"stage{s}.fits": _need(n) <= p.memory for s, n in zip(p.stages, nodes, strict=True)} if p.memory else {}
    return Report(
        "zero", _title(p), p.inputs, tuple(body), facts, (*_assumptions(p), *p.said, *p.notes), (job.rates.recipe.cite,),
        p.notes, p.symbolic, hidden=tuple(hidden),
    )  # fmt: skip


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
    return f"{name} on {shown(d.gpus)} GPUs" + (f" ({split}, data {shown(d.data)})" if split else "") + f", {p.job.rates.recipe.name}"


def _stage(p: Plan, stage: int, top: Rank) -> Node:
    """Everything of one ZeRO stage on the most loaded GPU."""
    key = f"stage{stage}"
    out = _deepspeed(p, stage, top) if p.job.rates.recipe.name == "deepspeed" and p.job.degrees.plain else [_memory(p, key, top)]
    if top.moved is not None and p.job.rates.recipe.name != "deepspeed":
        out += _outside(p, key, top)
    if top.activations:
        parts = [Node(f"{key}.states_bytes", "Model states", top.states, BYTES)]
        parts.append(Node.sum(f"{key}.activations_bytes", "Activations", [Node("", n, x, BYTES) for n, x in top.activations]))
        if value_of(top.gathered):
            parts.append(Node(f"{key}.gathered_bytes", "Gathered weights of two layers", top.gathered, BYTES))
        out.append(Node.sum(f"{key}.total_bytes", "Together", parts))
    out += _communication(p, key, _transfers(p, stage, top))
    if p.memory is not None and p.job.arch is None:
        out.append(Node(f"{key}.largest_params", f"Largest model whose states fit {human(p.memory, BYTES)}", _largest(p, stage), PARAMS))
    return Node.group(f"Stage {stage}" + _where(p, top), out)


def _where(p: Plan, top: Rank) -> str:
    if len(p.job.stages) == 1:
        return ""
    return f": pipeline stage {top.stage.index}, the most loaded"


def _memory(p: Plan, key: str, top: Rank) -> Node:
    by: dict[str, Held] = {h.part: h for h in top.held}
    rows = []
    for part, size in top.kept:
        h = by.get(part)
        note = "" if h is None or not value_of(size) else _note(h)
        rows.append(Node(f"{key}.{part}_bytes" if h else "", LABELS.get(part, part), size, BYTES, note=note, formula=h.formula if h else None))
    return Node.sum(f"{key}.memory_bytes", "Model states a GPU", rows)


def _note(h: Held) -> str:
    if not h.sharded:
        return "whole"
    return f"sharded, {h.padding:,} B of padding over all" if h.padding else "sharded"


def _outside(p: Plan, key: str, top: Rank) -> list[Node]:
    """What was offloaded, and the links' work for it."""
    assert top.moved is not None
    disk = p.job.target == "nvme"
    where = "disk" if disk else "host"
    rows = [Node("", LABELS.get(part, part), n, BYTES) for part, n in top.moved.outside]
    out = [Node.sum(f"{key}.{where}_bytes", f"On the {where}, of this GPU", rows)]
    each = p.job.degrees.gpus if value_of(p.job.degrees.gpus) < p.job.degrees.node else p.job.degrees.node
    out.append(Node(f"{key}.{where}_node_bytes", f"On the {where} of a node", each * out[0].value, BYTES))
    out.append(Node(f"{key}.pcie_bytes", "Over PCIe in a step", top.moved.pcie, BYTES))
    seconds = p.links.seconds(top.moved.pcie, HOST)
    if seconds is not None:
        out.append(Node(f"{key}.pcie_seconds", "PCIe busy", seconds, SECONDS))
    if disk:
        out.append(Node(f"{key}.disk_traffic_bytes", "To and from a node's disks in a step", each * top.moved.disk, BYTES))
        seconds = p.links.seconds(each * top.moved.disk, DISK)
        if seconds is not None:
            out.append(Node(f"{key}.disk_seconds", "Disks busy", seconds, SECONDS))
    return out


def _deepspeed(p: Plan, stage: int, top: Rank) -> list[Node]:
    """The estimators' own rules instead of a sum of parts."""
    job = p.job
    total = sum(piece.elements for piece in top.pieces)
    offload = job.offload if stage >= allowed(job.offload) else "none"
    found = deepspeed.estimate(total, job.largest, job.degrees.gpus, job.degrees.node, stage, offload)
    key = f"stage{stage}"
    out = [
        Node(f"{key}.memory_bytes", "Model states a GPU", found.gpu, BYTES, note="as estimate_zero*_model_states_mem_needs prints them"),
        Node(f"{key}.host_bytes", "Host memory a node", found.host, BYTES, note="zero.Init" if stage == 3 else ""),
    ]
    if found.host_without_init is not None:
        out.append(Node(f"{key}.host_without_init_bytes", "Host memory a node without zero.Init", found.host_without_init, BYTES))
    return out


def _transfers(p: Plan, stage: int, top: Rank) -> list[Transfer]:
    job = p.job
    local = job.degrees.link("data") == INSIDE
    return transfers(top.pieces, job.rates, stage, job.micro_batches, job.zero_pp, job.degrees.node, local)


def _communication(p: Plan, key: str, sent: Sequence[Transfer]) -> list[Node]:
    rows = [
        Node("", f"{t.op} of {t.what}", t.textbook, ELEMENTS, note=f"{int(value_of(t.times)):,} a step" if value_of(t.times) > 1 and not p.symbolic else "")
        for t in sent
    ]  # fmt: skip
    volume = sum(t.bytes for t in sent)
    out = [
        Node.sum(f"{key}.communication_elements", "Sent a GPU and step, in the limit of many GPUs", rows),
        Node(f"{key}.communication_ring_elements", "On a ring", sum(t.ring for t in sent), ELEMENTS),
        Node(f"{key}.communication_bytes", "Bytes on a ring", volume, BYTES),
        Node(f"{key}.communication_operations", "Collectives a step, each of the whole", sum(t.times for t in sent), COUNT),
    ]
    if p.job.zero_pp and not all(t.inside for t in sent):
        out.append(Node(f"{key}.network_bytes", "Of them between nodes", sum(t.bytes for t in sent if not t.inside), BYTES))
    times = [p.links.seconds(value_of(t.bytes), "inside a node" if t.inside else "between nodes") for t in sent]
    if p.links.known and not p.symbolic:
        out.append(Node(f"{key}.communication_seconds", "Links busy", sum(x or 0 for x in times), SECONDS))
    return out


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
    rows.append(Node("pipeline.in_flight", "Micro-batches in flight on the first stage", flying if not hasattr(flying, "denominator")
                     or flying.denominator == 1 else float(flying), RATIO))  # fmt: skip
    return Node.group("Pipeline", rows)


def _largest(p: Plan, stage: int) -> Any:
    """The most parameters whose states fit: the same sums, solved by bisection."""
    from dataclasses import replace

    job, first = p.job, p.job.stages[0]

    def fits(n: int) -> bool:
        tried = replace(job, params=n)
        if job.rates.recipe.name == "deepspeed":
            return bool(value_of(_deepspeed(replace_plan(p, tried), stage, rank(tried, first, stage))[0].value) <= (p.memory or 0))
        return bool(value_of(rank(tried, first, stage).states) <= (p.memory or 0))

    low, high = 0, 1
    while fits(high) and high < MOST_PARAMS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def replace_plan(p: Plan, job: Any) -> Plan:
    return Plan(job, p.stages, p.name, p.symbolic, p.links, p.gpu, p.memory, p.inputs)


def _assumptions(p: Plan) -> list[str]:
    r = p.job.rates
    said = [f"recipe {r.recipe.name}: {r.weight} bytes of weight, {r.gradient} of gradient and {r.optimizer} of optimizer a parameter"]
    if not r.flat:
        said.append("stage 1 is ZeroRedundancyOptimizer beside DDP's all-reduce; stages 2 and 3 are FSDP2 without and with resharding")
    if p.job.work is None:
        said.append("buckets and gathered copies are not model states: llmcalc memory --gpus --stage has every buffer")
    d = p.job.degrees
    if not d.plain:
        said.append("ranks in Megatron-LM's order: tensor, context, expert, data, pipeline; what does not fit a node goes between nodes")
    if value_of(d.tensor) > 1 and p.job.arch is not None:
        said.append(f"the vocabulary is padded to a multiple of {128 * value_of(d.tensor):,} (Megatron-LM)")
    if p.job.arch is not None and p.job.arch.tied and value_of(d.pipeline) > 1:
        said.append("the tied output matrix is a copy of the token table on the last pipeline stage")
    if p.links.known:
        said.append("times are bytes over the link's rate one way: no latency, no overlap")
    return said
