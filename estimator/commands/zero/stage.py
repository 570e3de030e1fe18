"""One ZeRO stage of the most loaded GPU: what it holds, what it offloads, what data parallelism sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from estimator.alike import add_up
from estimator.commands.zero.plan import ShardedPlan
from estimator.parallel import deepspeed
from estimator.parallel.job import GATHERED, Rank, rank
from estimator.parallel.links import DISK, HOST
from estimator.parallel.offload import allowed, gpus_of_node, on_host
from estimator.parallel.sharding import GRADIENTS, OPTIMIZER, WEIGHTS, Share
from estimator.parallel.traffic import Transfer, transfers
from estimator.report import Node
from estimator.sizes import LARGEST
from estimator.trace import Traced, value_of
from estimator.units import BYTES, COUNT, ELEMENTS, PARAMS, SECONDS, human
from estimator.working import Item, Step, Working, plus

LABELS = {WEIGHTS: "Weights", GRADIENTS: "Gradients", OPTIMIZER: "Optimizer"}


def stage_node(p: ShardedPlan, stage: int, top: Rank) -> Node:
    """Everything of one ZeRO stage on the most loaded GPU."""
    key = f"stage{stage}"
    printed = p.job.rates.recipe.name == "deepspeed" and p.job.degrees.plain
    out = _deepspeed(p, stage, top) if printed else [_memory(p, key, top)]
    if top.moved is not None and not printed:
        out += _outside(p, key, top)
    if top.activations:
        parts = [Node(f"{key}.states_bytes", "Model states", out[0].value, BYTES)]
        parts.append(
            Node.sum(f"{key}.activations_bytes", "Activations", [Node("", n, x, BYTES) for n, x in top.activations])
        )
        if value_of(top.gathered):
            parts.append(Node(f"{key}.gathered_bytes", "Gathered weights of two layers", top.gathered, BYTES))
        out.append(Node.sum(f"{key}.total_bytes", "Together", parts))
    out += _communication(p, key, data_transfers(p, stage, top))
    if p.memory is not None and p.job.arch is None:
        out.append(
            Node(
                f"{key}.largest_params",
                f"Largest model whose states fit {human(p.memory, BYTES)}",
                _largest(p, stage),
                PARAMS,
            )
        )
    return Node.group(f"Stage {stage}" + _where(p, top), out)


def _where(p: ShardedPlan, top: Rank) -> str:
    if len(p.job.stages) == 1:
        return ""
    return f": pipeline stage {top.stage.index}, the most loaded"


def _memory(p: ShardedPlan, key: str, top: Rank) -> Node:
    by: dict[str, Share] = {h.part: h for h in top.held}
    rows = []
    for part, size in top.kept:
        h = by.get(part)
        note = "" if h is None or not value_of(size) else _note(h)
        rows.append(
            Node(
                f"{key}.{part}_bytes" if h else f"{key}.unsharded_bytes" if part == GATHERED else "",
                LABELS.get(part, part),
                size,
                BYTES,
                note=note,
                formula=h.formula if h else None,
            )
        )
    return Node.sum(f"{key}.memory_bytes", "Model states a GPU", rows)


def _note(h: Share) -> str:
    if not h.sharded:
        return "whole"
    return f"sharded, {h.padding:,} B of padding over all" if h.padding else "sharded"


def _outside(p: ShardedPlan, key: str, top: Rank) -> list[Node]:
    """What was offloaded, and the links' work for it."""
    assert top.moved is not None
    disk = p.job.target == "nvme"
    where = "disk" if disk else "host"
    held, each = on_host(top.moved.outside, p.job.degrees), gpus_of_node(p.job.degrees)
    rows = [Node("", LABELS.get(part, part), n, BYTES) for part, n in held.parts]
    out = [Node.sum(f"{key}.{where}_bytes", f"On the {where}, of this GPU", rows)]
    out.append(Node(f"{key}.{where}_node_bytes", f"On the {where} of a node", held.node, BYTES))
    out.append(Node(f"{key}.pcie_bytes", "Over PCIe in a step", top.moved.pcie, BYTES))
    seconds = p.links.seconds(top.moved.pcie, HOST)
    if seconds is not None:
        out.append(Node(f"{key}.pcie_seconds", "PCIe busy", seconds, SECONDS))
    if disk:
        out.append(
            Node(f"{key}.disk_traffic_bytes", "To and from a node's disks in a step", each * top.moved.disk, BYTES)
        )
        seconds = p.links.seconds(each * top.moved.disk, DISK)
        if seconds is not None:
            out.append(Node(f"{key}.disk_seconds", "Disks busy", seconds, SECONDS))
    return out


def _deepspeed(p: ShardedPlan, stage: int, top: Rank) -> list[Node]:
    """The estimators' own rules instead of a sum of parts."""
    job = p.job
    total = sum(piece.elements for piece in top.pieces)
    offload = job.offload if stage >= allowed(job.offload) else "none"
    found = deepspeed.estimate(total, job.largest, job.degrees.gpus, job.degrees.node, stage, offload)
    key = f"stage{stage}"
    out = [
        Node(
            f"{key}.memory_bytes",
            "Model states a GPU",
            found.gpu,
            BYTES,
            note="as estimate_zero*_model_states_mem_needs prints them",
        )
    ]
    if p.symbolic and isinstance(job.degrees.gpus, Traced):
        return out  # how many of N GPUs share a node's memory depends on N
    note = "zero.Init" if stage == 3 else ""
    out.append(Node(f"{key}.host_bytes", "Host memory a node", found.host, BYTES, note=note))
    if found.host_without_init is not None:
        out.append(
            Node(
                f"{key}.host_without_init_bytes", "Host memory a node without zero.Init", found.host_without_init, BYTES
            )
        )
    return out


def data_transfers(p: ShardedPlan, stage: int, top: Rank) -> list[Transfer]:
    job = p.job
    return transfers(top.pieces, job.rates, stage, job.micro_batches, job.zero_pp, degrees=job.degrees)


def _communication(p: ShardedPlan, key: str, sent: Sequence[Transfer]) -> list[Node]:
    rows = [
        Node(
            "",
            f"{t.op} of {t.what}",
            t.textbook,
            ELEMENTS,
            note=f"{int(value_of(t.times)):,} a step" if value_of(t.times) > 1 and not p.symbolic else "",
        )
        for t in sent
    ]
    volume = sum(t.bytes for t in sent)
    out = [
        Node.sum(
            f"{key}.communication_elements", "Sent a GPU and step, in the limit of many GPUs", rows,
            working=_sent(sent, "textbook", "what each collective sends; an all-reduce is two, one after the other"),
        ),
        Node(
            f"{key}.communication_ring_elements", "On a ring", sum(t.ring for t in sent), ELEMENTS,
            working=_sent(sent, "ring", "a ring of N sends (N - 1)/N of all elements, 2 (N - 1)/N in an all-reduce"),
        ),
        Node(
            f"{key}.communication_bytes", "Bytes on a ring", volume, BYTES,
            working=_sent(sent, "bytes", "the same in bytes: " + ", ".join(f"{t.bits} bits of {t.what}" for t in sent)),
        ),
        Node(
            f"{key}.communication_operations",
            "Collectives a step, each of the whole",
            sum(t.times for t in sent),
            COUNT,
        ),
    ]
    if p.job.zero_pp and not all(t.inside for t in sent):
        out.append(
            Node(f"{key}.network_bytes", "Of them between nodes", sum(t.bytes for t in sent if not t.inside), BYTES)
        )
    times = [p.links.seconds(value_of(t.bytes), t.link, t.ports) for t in sent]
    if p.links.known and not p.symbolic:
        out.append(Node(f"{key}.communication_seconds", "Links busy", add_up(x or 0 for x in times), SECONDS))
    return out


def _sent(sent: Sequence[Transfer], field: str, rule: str) -> Working:
    """The collectives one by one, and their sum."""

    def steps() -> list[Step]:
        items = [Item((f"{t.op} of {t.what}",), (("", (getattr(t, field),)),)) for t in sent]
        return [Step(rule, plus(*(i.term for i in items)), tuple(items))] if items else []

    return steps


def _largest(p: ShardedPlan, stage: int) -> Any:
    """The most parameters whose states fit: the same sums, solved by bisection."""
    job, first = p.job, p.job.stages[0]

    def fits(n: int) -> bool:
        tried = replace(job, params=n)
        if job.rates.recipe.name == "deepspeed":
            return bool(
                value_of(_deepspeed(replace(p, job=tried), stage, rank(tried, first, stage))[0].value)
                <= (p.memory or 0)
            )
        return bool(value_of(rank(tried, first, stage).states) <= (p.memory or 0))

    low, high = 0, 1
    while fits(high) and high < LARGEST["params"]:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
