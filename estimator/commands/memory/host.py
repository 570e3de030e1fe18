"""What a training step with ``--offload`` has in the host's memory, and whether it fits there (``--ram``).

Of DeepSpeed's processes each holds its part of the fp32 master weights, moments and gradients that CPUAdam steps, and
under ``--offload all`` its shard of the 16-bit weights; a node's figure is what DeepSpeed's estimators print, as in
``llmcalc zero``. Under FSDP (CPUOffloadPolicy, CPUOffload) each holds its shards of weights, gradients and states.

Sources: deepspeed/runtime/zero/stage_1_and_2.py and stage3.py (0.19.8); torch/distributed/fsdp/_fully_shard/
_fsdp_param.py, offload_to_cpu.
"""

from __future__ import annotations

from typing import Any

from estimator.card import Card, Range
from estimator.commands.memory.plan import MemoryPlan
from estimator.commands.memory.sharding import DEEPSPEED
from estimator.errors import InputError
from estimator.fit import NO, TIGHT, Fit, together
from estimator.inventory import total
from estimator.optimizers import find_optimizer, state_bytes
from estimator.parallel import deepspeed
from estimator.parallel.degrees import Degrees
from estimator.parallel.links import node_size
from estimator.parallel.offload import TARGETS, Host, on_host
from estimator.report import Node
from estimator.trace import value_of
from estimator.units import BYTES, human, parse_memory

REST = "buffers, and each process's model at load, as DeepSpeed's estimator has them"


def host_of(p: MemoryPlan) -> Host | None:
    """The host's part of a step; None where nothing is offloaded to it."""
    if p.mode != "training":
        return None
    if p.grid is not None:
        from estimator.commands.memory.grid import most_loaded

        moved = most_loaded(p.grid).moved
        if moved is None or p.grid.job.target != TARGETS[0]:
            return None
        return on_host(moved.outside, p.grid.job.degrees)
    load = p.load
    if load.host == "none":
        return None
    gpus = load.gpus * load.replicas
    preset = _preset(p.question.gpu)
    alone = preset is not None and preset.memory.unified  # a machine has one of them
    degrees = Degrees(gpus, node=1 if alone else node_size(None, preset))
    return _deepspeed(p, degrees) if load.sharder == DEEPSPEED else on_host(_fsdp(p), degrees)


def _preset(gpu: Any) -> Any:
    """The card's preset, where one is named."""
    from estimator.presets import load_gpu

    if gpu is None:
        return None
    try:
        return load_gpu(gpu)
    except InputError:  # a size
        return None


def _deepspeed(p: MemoryPlan, degrees: Degrees) -> Host:
    from estimator.parallel.zero_standing import host_parts

    added = sum(t.elements for t in p.load.adapter.tensors) if p.load.adapter is not None else 0
    trained = sum(t.times * t.n for t in p.params)
    printed = deepspeed.estimate(
        total(p.arch.weights()) + added, deepspeed.largest_module(p.arch.weights()), degrees.gpus, degrees.node,
        p.load.stage, p.load.host, trained,
    )  # fmt: skip
    return Host(tuple(host_parts(p.arch, p.load, trained)), printed.host, REST, printed.host_without_init)


def _fsdp(p: MemoryPlan) -> list[tuple[str, Any]]:
    """Rank 0's shards of the model and of an adapter, of their gradients and states."""
    from estimator.parallel.sharded import standing_bytes
    from estimator.parallel.units import cut, elements

    weights, graded, own = standing_bytes(p.arch, p.load, p.params)
    if p.load.adapter is not None:
        weights += sum(
            t.times * elements(cut(t.shape, p.load.gpus)) * p.load.adapter_width for t in p.load.adapter.tensors
        )
    return [
        ("Weights", weights), ("Gradients", sum(t.times * t.n * t.width for t in graded)),
        ("Optimizer", state_bytes(find_optimizer(p.load.optimizer), own)),
    ]  # fmt: skip


LABELS = {"weights": "Weights", "gradients": "Gradients", "optimizer": "Optimizer"}


def node_of(host: Host) -> Node:
    """The rows of a report."""
    parts = [Node("", LABELS.get(name, name), n, BYTES) for name, n in host.parts]
    rows = [
        Node.sum("host_bytes", "Of this GPU's process", parts),
        Node("host_node_bytes", "Of a node", host.node, BYTES, note=f"with {host.rest}" if host.rest else ""),
    ]
    if host.bare is not None:
        rows.append(Node("host_without_init_bytes", "Of a node without zero.Init", host.bare, BYTES))
    return Node.group("On the host", rows)


def ram_of(question: Any, host: Host | None, card: Card, needs: Range | None) -> Fit | None:
    """Whether a node's part fits the host's memory; None where nothing is asked. InputError where nothing is there.

    Where the card has no memory of its own, whether a process's part and what it ``needs`` of the card fit that one.
    """
    if card.machine is not None and needs is not None and not (host is None and question.ram is None):
        return together(card.beside(question.ram), needs, 0 if host is None else host.own)
    if question.ram is None:
        return None
    if host is None:
        raise InputError(
            f"--ram {str(question.ram)[:40]} is of serving, not of a training step without --offload: leave it out, or "
            "add --offload"
        )
    return Fit(Range(*(host.node,) * 3), parse_memory(str(question.ram), "--ram"), "the host")


def verdict_of(fit: Fit | None, more: str, host: Host | None, ram: Fit | None) -> str:
    """The verdict: the card's sentence, with ``more`` behind it, and the host's; the host's first where it alone is
    too small."""
    card = "" if fit is None else fit.sentence() + more
    if ram is None and host is None:
        return card
    if ram is None and host is not None:
        needs = f"The host of a node needs {human(int(value_of(host.node)), BYTES)} (--ram asks whether it fits)."
        return f"{card} {needs}" if card else ""
    assert ram is not None
    here = ram.sentence("a node ")
    if fit is None:
        return here
    return f"{here} On the card: {card}" if ram.answer == NO and fit.answer != NO else f"{card} On the host: {here}"


def worst_of(fits: str | None, ram: Fit | None) -> str | None:
    """``fits`` of the card and the host together."""
    answers = [x for x in (fits, None if ram is None else ram.answer) if x is not None]
    return next((x for x in (NO, TIGHT) if x in answers), answers[0] if answers else None)
