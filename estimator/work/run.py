"""What one pass runs: the simulated step (:mod:`estimator.stack`), run once with its logs of products and kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from estimator.families.base import Architecture
from estimator.moments import Workload, machine, split_layers
from estimator.peft.base import Adapter
from estimator.same import Same
from estimator.stack.dropout import Dropout
from estimator.stack.engine import backward
from estimator.stack.machine import Machine
from estimator.stack.moves import Kernel
from estimator.stack.products import Entry
from estimator.stack.program import forward
from estimator.stack.tape import Tape
from estimator.sweep.again import Again, recordable
from estimator.trace import Recordable
from estimator.work.product import Product
from estimator.work.workload import PassSizes, fused_exists, fused_scan_exists

if TYPE_CHECKING:
    from estimator.sweep.ints import Single

Run = Callable[[Architecture, PassSizes, Adapter | None], Sequence[Any]]
SIZED = ("b", "s", "context")
OTHERS = attrgetter(*(f.name for f in fields(PassSizes) if f.name not in (*SIZED, "encoder")))
RECURRENT = "mixer"  # where recurrent mixers run
SIZES = tuple(f.name for f in fields(Entry) if f.name not in ("times", "excess"))


def products(
    arch: Architecture, work: PassSizes, adapter: Adapter | None = None,
    trains: Callable[[str], bool] | None = None, top: Any = None,
) -> list[Product]:  # fmt: skip
    """Every product of one pass through ``arch``, in order; in training with the gradients that autograd computes.

    trains: whether a weight of the model trains, where neither all do nor an adapter says so; top: in so many of the
    last layers only. The last few are remembered where neither is given.
    """
    if trains is None and top is None and recordable(work.b, work.s, work.context, work.encoder or 0):
        return list(_remembered(_products, Same(arch), work, Same(adapter)))
    return _products(arch, work, adapter, trains, top)


def _products(
    arch: Architecture, work: PassSizes, adapter: Adapter | None, trains: Callable[[str], bool] | None = None,
    top: Any = None,
) -> list[Product]:  # fmt: skip
    t = Tape(work.mode == "training", work.amp)
    t.work = []
    _run(t, arch, work, adapter, trains, top)
    return merged(t.work)


def operations(arch: Architecture, work: PassSizes, adapter: Adapter | None = None) -> Sequence[Product | Kernel]:
    """Every product of one pass, and every other kernel.

    Of a serving engine (``work.engine``) its own kernels; where recurrent layers run fused ones (``work.fused_scan``),
    those in place of what PyTorch would run inside them.
    """
    if recordable(work.b, work.s, work.context, work.encoder or 0):
        return _remembered(_operations, Same(arch), work, Same(adapter))
    return _operations(arch, work, adapter)


def timed(arch: Architecture, work: PassSizes) -> Sequence[Product | Kernel]:
    """:func:`operations` for a fold of seconds alone: the kernels of each part of the model as one entry."""
    if not recordable(work.b, work.s, work.context, work.encoder or 0):
        return _timed(arch, work)
    return _remembered(_timed, Same(arch), work, Same(None))


@lru_cache(maxsize=128)
def _remembered(
    run: Run, same: Same[Architecture], work: PassSizes, adapter: Same[Adapter | None]
) -> tuple[Any, ...]:
    """What ``run`` makes of a pass: the last few are remembered, as a pass is timed on several machines, and where
    other sizes were asked for before it comes out of a record (:mod:`estimator.sweep.again`)."""
    names = SIZED if work.encoder is None else (*SIZED, "encoder")
    return _passes(run, same, adapter, names, OTHERS(work)).at(work)


@lru_cache(maxsize=32)
def _passes(
    run: Run, same: Same[Architecture], adapter: Same[Adapter | None], names: tuple[str, ...], others: Any
) -> Again[tuple[Any, ...]]:
    return Again(lambda work: tuple(run(same.it, work, adapter.it)), names, KeptPass)


def _timed(arch: Architecture, work: PassSizes, adapter: Adapter | None = None) -> tuple[Product | Kernel, ...]:
    found: dict[tuple[str, str], list[Any]] = {}
    made = _operations(arch, work, adapter)
    for k in made:
        if isinstance(k, Kernel):
            sums = found.setdefault((k.where, k.phase), [0, 0, 0, 0])
            for i, x in enumerate((k.launches, k.moved, k.strided, k.welford)):
                sums[i] = sums[i] + k.times * x
    kernels = (Kernel("", where, phase, 1, *sums) for (where, phase), sums in found.items())
    return (*(q for q in made if isinstance(q, Product)), *kernels)


class KeptPass:
    """Operations of the slots of their record."""

    def __init__(self, single: Single, made: Sequence[Product | Kernel]) -> None:
        from estimator.sweep.ints import total

        self.total = total
        self.made = []
        for q in made:
            open_ = [(i, single.of(x)) for i, x in enumerate(q) if isinstance(x, Recordable)]
            self.made.append((type(q)._make, list(q), open_))

    def __call__(self, v: list[int]) -> tuple[Product | Kernel, ...]:
        out = []
        for make, values, open_ in self.made:
            own = values.copy()
            for i, terms in open_:
                own[i] = self.total(terms, v)
            out.append(make(own))
        return tuple(out)


def _operations(arch: Architecture, work: PassSizes, adapter: Adapter | None) -> list[Product | Kernel]:
    t = Tape(work.mode == "training", work.amp)
    t.work, t.moves = [], []
    _run(t, arch, work, adapter, None, None)
    if work.engine:
        kernels = [k for k in t.moves if k.engine]
    elif work.fused_scan and fused_scan_exists(arch):
        kernels = [k for k in t.moves if k.engine == (k.where == RECURRENT)]
    else:
        kernels = [k for k in t.moves if not k.engine]
    return [*merged(t.work), *kernels]


def _run(
    t: Tape, arch: Architecture, work: PassSizes, adapter: Adapter | None, trains: Callable[[str], bool] | None,
    top: Any,
) -> None:  # fmt: skip
    """One pass on ``t``, in whose logs it leaves what it ran."""
    training = work.mode == "training"
    if adapter is not None and adapter.method.name == "freeze":
        top = adapter.args["trainable_layers"]
    one_kernel = work.engine or (work.fused and work.forced)
    fused = work.fused and fused_exists(arch, work.uncapped)
    load = Workload(
        work.b, work.s, width=work.width, amp=work.amp, training=training, fused=one_kernel or fused,
        checkpointing="full" if training and work.checkpointing else "none", adapter=adapter, top=top,
        adapter_width=work.adapter_width, kbit=work.kbit, quantization=work.quantization, kernels=work.kernels,
        logits="last" if work.last and arch.kind == "decoder" else "all",
    )  # fmt: skip
    m = machine(arch, load, t)
    m.one_kernel, m.fused = one_kernel, one_kernel or m.fused
    m.logits, m.inputs_want_grad = load.logits, training and work.checkpointing
    drops = training and work.dropout > 0
    m.drops = Dropout(mixer=drops, branch=drops)
    if trains is not None:
        m.trains = lambda name: m.segment_trains is not False and trains(name)
    segments = split_layers(arch, load, m)
    if work.encoder is not None:
        m.enc_tokens = work.encoder
    if work.mode == "decode":
        cached(m, arch, work, segments)
    elif work.caches and arch.kind != "encoder":
        m.cache = {}
    out = forward(m, arch, segments, load.checkpointing == "full")
    if training and out.loss is not None and out.loss.node is not None:
        loss, out.loss = out.loss, None
        backward(t, loss, out.bounds)


def cached(m: Machine, arch: Architecture, work: PassSizes, segments: list[Any]) -> None:
    """One new token a sequence, with ``work.context`` of them, and all of the encoder's, in the cache."""
    m.prompted, m.s, m.kv, m.cache = 0, 1, 1 + m.prefix, {}
    if work.encoder is None and arch.encoder_tokens is None:
        m.enc_tokens = work.context
    if arch.kind == "encoder-decoder":
        t = m.t
        logs, t.work, t.moves = (t.work, t.moves), None, None
        forward(m, arch, segments, False)
        t.work, t.moves = logs
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
            e.recomputed, e.pairs, e.pairs_of, e.excess if e.right else 0, e.weight, e.layer, e.wide,
        )
        for e, times in found.values()
        if times != 0 and e.count != 0
    ]  # fmt: skip
