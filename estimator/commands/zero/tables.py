"""Tables of ``zero``: stages side by side, pipeline stages, communication by group and link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.parallel.job import Job, Rank
from estimator.parallel.messages import Message
from estimator.parallel.traffic import Transfer
from estimator.report import Cell, Node, Table
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, PARAMS, SECONDS

ROWS = (
    ("weights_bytes", "weights"),
    ("gradients_bytes", "gradients"),
    ("optimizer_bytes", "optimizer"),
    ("unsharded_bytes", "gathered for the pass"),
    ("memory_bytes", "model states a GPU"),
    ("activations_bytes", "activations"),
    ("gathered_bytes", "gathered weights"),
    ("total_bytes", "together"),
    ("host_bytes", "on the host"),
    ("host_without_init_bytes", "host, no zero.Init"),
    ("disk_bytes", "on disk"),
    ("pcie_bytes", "over PCIe a step"),
    ("communication_elements", "elements sent a step"),
    ("communication_ring_elements", "elements on a ring"),
    ("communication_bytes", "bytes on a ring"),
    ("network_bytes", "of them between nodes"),
    ("communication_seconds", "links busy"),
    ("largest_params", "largest model"),
)
SHARDED = ("nothing", "states", "+ gradients", "+ weights")


def side_by_side(nodes: Sequence[Node], stages: Sequence[int], fits: Sequence[str | None]) -> Table:
    """One column a stage; ``fits``: its verdict, where a GPU is named."""
    found = [{k.key.partition(".")[2]: k for k in node.walk() if k.key} for node in nodes]
    rows: list[tuple[str | Cell | None, ...]] = [("sharded", *(SHARDED[s] for s in stages))]
    for key, label in ROWS:
        if any(key in by for by in found):
            rows.append((label, *(_cell(by.get(key)) for by in found)))
    if any(fits):
        rows.append(("fits", *fits))
    return Table("", ("", *(f"stage {s}" for s in stages)), tuple(rows))


def _cell(node: Node | None) -> Cell | None:
    return None if node is None or node.unit is None else Cell(node.value, node.unit)


def pipeline(found: Sequence[Rank], job: Job, stage: int) -> Table:
    """What each pipeline stage holds at one ZeRO stage."""
    rows: list[tuple[str | Cell | None, ...]] = []
    for r in found:
        ends = ", ".join(word for word, yes in (("embedding", r.stage.first), ("head", r.stage.last)) if yes)
        flying = job.schedule.in_flight(r.stage.index)
        rows.append(
            (
                str(r.stage.index),
                Cell(r.stage.count, COUNT),
                ends or "-",
                Cell(sum(p.elements for p in r.pieces), PARAMS),
                f"{float(value_of(flying)):g}",
                Cell(r.states, BYTES),
                Cell(sum(n for _, n in r.activations), BYTES),
                Cell(r.total, BYTES),
            )
        )
    hidden = len(found) < value_of(job.degrees.pipeline)
    return Table(
        f"Pipeline stages at ZeRO stage {stage}",
        ("stage", "layers", "ends", "parameters", "in flight", "states", "activations", "together"),
        tuple(rows),
        "a GPU of each" + ("; those left out are like the one above them" if hidden else ""),
    )


def communication(sent: Sequence[Message], data: Sequence[Transfer], p: Any, stage: int) -> Table:
    """Who sends what over which link."""
    rows: list[tuple[str | Cell | None, ...]] = []

    def row(group: str, what: str, over: Any, x: Message | Transfer, layer: Any, step: Any) -> None:
        seconds, link = p.links.seconds(value_of(step), x.link, x.ports), x.link
        rows.append(
            (
                group,
                f"{value_of(over):,}" if not p.symbolic else Cell(over, COUNT),
                link,
                what,
                Cell(layer, BYTES) if layer is not None else None,
                Cell(step, BYTES),
                Cell(seconds, SECONDS) if seconds is not None else None,
            )
        )

    for x in sent:
        row(x.group, x.what, x.over, x, x.layer, x.step)
    for t in data:
        row("data", f"{t.op} of {t.what}", t.over, t, None, t.bytes)
    return Table(
        f"Sent by the most loaded GPU, ZeRO stage {stage}",
        ("group", "GPUs", "link", "what", "a layer", "a step", "time"),
        tuple(rows),
    )
