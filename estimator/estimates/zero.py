"""Memory and communication a GPU: ZeRO's stages, and the parallelism they are combined with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import InputError
from estimator.formulas.zero import deepspeed_stage2_bytes, deepspeed_stage3_bytes
from estimator.models import Model
from estimator.parallel.degrees import Degrees
from estimator.parallel.picture import picture
from estimator.parallel.request import is_letter, size
from estimator.parallel.sharding import GRADIENTS, OPTIMIZER, SHARDED, STAGES, WEIGHTS, Piece, held
from estimator.parallel.traffic import Transfer, check_zero_pp, transfers
from estimator.parallel.recipe import Rates, rates
from estimator.report import Cell, Node, Report, Table, Text
from estimator.trace import Traced, value_of
from estimator.units import BYTES, ELEMENTS, human

MOST_PARAMS = 10**18


def parse_stages(stage: Any) -> tuple[int, ...]:
    """``all`` or one stage."""
    text = str(stage).strip().lower()
    if text == "all":
        return STAGES
    if text not in ("0", "1", "2", "3"):
        raise InputError(f"--stage must be 0, 1, 2, 3 or all, got {str(stage)[:20]!r}")
    return (int(text),)


def zero(
    model: Model | None = None,
    params: Any = None,
    gpus: Any = 8,
    stage: Any = "all",
    recipe: str = "zero-paper",
    optimizer: str = "adamw",
    micro_batches: Any = 1,
    zero_pp: str = "",
    gpus_per_node: int = 8,
    derive: bool = False,
) -> Report:
    """What each of ``gpus`` GPUs holds and sends. Exactly one of ``model`` and ``params`` is given.

    Sizes may be ints, texts (``7.5e9``) or letters. Raises InputError for degrees that do not divide what they shard.
    """
    if (model is None) == (params is None):
        raise InputError("give either --model or --params, not both")
    stages = parse_stages(stage)
    r = rates(recipe, optimizer)
    n = size(gpus, "--gpus", "gpus", model, derive)
    m = size(micro_batches, "--micro-batches", "micro_batches", model, derive)
    degrees = Degrees(n, node=gpus_per_node)
    pieces = _pieces(model, params, degrees, derive)
    pp = check_zero_pp(zero_pp, stages, degrees.shards, gpus_per_node)
    nodes = [_stage(pieces, r, s, m, pp, degrees) for s in stages]
    symbolic = (model is not None and model.kind == "symbolic") or any(map(is_letter, (params, gpus, micro_batches)))
    name = model.name if model else f"{_shown(pieces[0].elements, symbolic)} parameters"
    body: list[Node | Table | Text] = []
    hidden: tuple[Node, ...] = ()
    if len(stages) > 1:
        body.append(_table(nodes, stages))
        hidden = tuple(k for node in nodes for k in node.walk() if k.key)
    else:
        body += nodes
    if not symbolic:
        widths = {WEIGHTS: r.weight, GRADIENTS: r.gradient, OPTIMIZER: r.optimizer}
        body.append(Text("Who holds what", picture(widths, int(value_of(degrees.shards)), stages)))
    inputs = {"model": model.name if model else None, "params": pieces[0].elements if params is not None else None,
              "gpus": n, "stage": str(stage), "recipe": r.recipe.name, "optimizer": optimizer}  # fmt: skip
    return Report(
        "zero", f"{name} on {_shown(n, symbolic)} GPUs, {r.recipe.name}: {r.recipe.title}", inputs, tuple(body), {},
        tuple(_assumptions(r, pieces, stages)), (r.recipe.cite,), (), symbolic, hidden=hidden,
    )  # fmt: skip


def _shown(x: Any, symbolic: bool) -> str:
    return str(x.expr) if symbolic and isinstance(x, Traced) else f"{value_of(x):,}"


def _pieces(model: Model | None, params: Any, degrees: Degrees, derive: bool) -> list[Piece]:
    if model is None:
        return [Piece("weights", size(params, "--params", "params", None, derive, most=MOST_PARAMS), degrees.shards)]
    weights = tuple(model.architecture.weights())
    return [Piece("weights", sum(w.total for w in weights), degrees.shards, weights)]


def _stage(
    pieces: Sequence[Piece], r: Rates, stage: int, m: Any, pp: Sequence[str], degrees: Degrees
) -> Node:
    key = f"stage{stage}"
    rows = [
        Node(f"{key}.{h.part}_bytes", h.part.capitalize(), h.bytes, BYTES, formula=h.formula,
             note=f"sharded, {h.padding:,} B padding in all" if h.padding else "sharded" if h.sharded else "whole")
        for h in held(pieces, r, stage)
    ]  # fmt: skip
    memory = Node.sum(f"{key}.memory_bytes", "Model states a GPU", rows)
    sent = transfers(pieces, r, stage, m, pp, degrees.node, degrees.link("data") == "inside a node")
    comm = [Node("", f"{t.op} of {t.what}", t.textbook, ELEMENTS, note=_count(t)) for t in sent]
    total = Node.sum(f"{key}.communication_elements", "Sent a GPU and step, in the limit of many GPUs", comm)
    ring = Node(f"{key}.communication_ring_elements", "On a ring", sum(t.ring for t in sent), ELEMENTS)
    volume = Node(f"{key}.communication_bytes", "Bytes on a ring", sum(t.bytes for t in sent), BYTES)
    return Node.group(f"Stage {stage}", [memory, total, ring, volume])


def _count(t: Transfer) -> str:
    times = int(value_of(t.times))
    return f"{times:,} a step" if times > 1 else ""


ROWS = (
    ("weights_bytes", "weights"),
    ("gradients_bytes", "gradients"),
    ("optimizer_bytes", "optimizer"),
    ("memory_bytes", "model states a GPU"),
    ("communication_elements", "elements sent a GPU and step"),
    ("communication_ring_elements", "elements on a ring"),
    ("communication_bytes", "bytes on a ring"),
)


def _table(nodes: Sequence[Node], stages: Sequence[int]) -> Table:
    found = [{k.key.partition(".")[2]: k for k in node.walk() if k.key} for node in nodes]
    rows: list[tuple[str | Cell | None, ...]] = [("sharded", *(("none", "states", "+ gradients", "+ weights")[s] for s in stages))]
    for key, label in ROWS:
        if any(key in by for by in found):
            rows.append((label, *(Cell(by[key].value, by[key].unit) if key in by else None for by in found)))  # type: ignore[arg-type]
    return Table("", ("", *(f"stage {s}" for s in stages)), tuple(rows))


def _assumptions(r: Rates, pieces: Sequence[Piece], stages: Sequence[int]) -> list[str]:
    return [f"recipe {r.recipe.name}: {r.weight} bytes of weight, {r.gradient} of gradient and {r.optimizer} of optimizer state a parameter", "activations, buckets and gathered copies are not model states: see llmcalc memory"]
