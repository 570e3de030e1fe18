"""The products of one pass: the simulated step (:mod:`estimator.stack`), run once with its log of products on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from estimator.families.base import Architecture
from estimator.moments import Workload, machine, split_layers
from estimator.peft.base import Adapter
from estimator.stack.dropout import Dropout
from estimator.stack.engine import backward
from estimator.stack.machine import Machine
from estimator.stack.products import Entry
from estimator.stack.program import forward
from estimator.stack.tape import Tape
from estimator.work.product import Product
from estimator.work.workload import PassSizes, fused_exists

SIZES = tuple(f.name for f in fields(Entry) if f.name not in ("times", "excess"))


def products(
    arch: Architecture, work: PassSizes, adapter: Adapter | None = None,
    trains: Callable[[str], bool] | None = None, top: Any = None,
) -> list[Product]:  # fmt: skip
    """Every product of one pass through ``arch``, in order; in training with the gradients that autograd computes.

    trains: whether a weight of the model trains, where neither all do nor an adapter says so; top: in so many of the
    last layers only.
    """
    training = work.mode == "training"
    if adapter is not None and adapter.method.name == "freeze":
        top = adapter.args["trainable_layers"]
    load = Workload(
        work.b, work.s, training=training, fused=work.engine or (work.fused and fused_exists(arch, work.uncapped)),
        checkpointing="full" if training and work.checkpointing else "none", adapter=adapter, top=top,
        logits="last" if work.last and arch.kind == "decoder" else "all",
    )  # fmt: skip
    t = Tape(training)
    m = machine(arch, load, t)
    m.logits, m.inputs_want_grad = load.logits, training and work.checkpointing
    m.drops = Dropout(branch=training and work.dropout > 0)
    if trains is not None:
        m.trains = lambda name: m.segment_trains is not False and trains(name)
    segments = split_layers(arch, load, m)
    if work.encoder is not None:
        m.enc_tokens = work.encoder
    if work.mode == "decode":
        cached(m, arch, work, segments)
    t.work = []
    out = forward(m, arch, segments, load.checkpointing == "full")
    if training and out.loss is not None and out.loss.node is not None:
        loss, out.loss = out.loss, None
        backward(t, loss, out.bounds)
    return merged(t.work)


def cached(m: Machine, arch: Architecture, work: PassSizes, segments: list[Any]) -> None:
    """One new token a sequence, with ``work.context`` of them, and all of the encoder's, in the cache."""
    m.prompted, m.s, m.kv, m.cache = 0, 1, 1 + m.prefix, {}
    if work.encoder is None and arch.encoder_tokens is None:
        m.enc_tokens = work.context
    if arch.kind == "encoder-decoder":
        forward(m, arch, segments, False)
    m.past, m.kv = work.context, work.context + 1 + m.prefix


def merged(log: Iterable[Entry]) -> list[Product]:
    """Entries that differ only in their layers are one product."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for e in log:
        key = tuple(getattr(e, f) for f in SIZES)
        held = found.setdefault(key, [e, 0])
        held[1] = held[1] + e.times
    return [
        Product(
            e.name, e.part, e.m, e.k, e.n, e.count, times, e.operator, e.left, e.right, e.again if e.left else 0,
            e.recomputed, e.pairs, e.pairs_of, e.excess if e.right else 0, e.weight, e.layer,
        )
        for e, times in found.values()
        if times != 0 and e.count != 0
    ]  # fmt: skip
