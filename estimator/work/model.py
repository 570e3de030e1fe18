"""From an Architecture and a workload to the list of its products, under autograd's own rules.

Layers that are alike share one entry. In training a group splits where the gradient flow differs: nothing before the
first trained weight is differentiated, and the layer that holds it receives an input without gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Layer, Linear, Lookup, MoE, NoMixer, Norm
from estimator.families.towers import Conv
from estimator.ops import minimum
from estimator.stack.products import label
from estimator.work import blocks, feedforward, scan
from estimator.work import kernels as k
from estimator.work import product as p
from estimator.work.blocks import Rows, Walk
from estimator.work.product import Kernel, Product
from estimator.work.trainable import NONE, Trainable
from estimator.work.workload import PassSizes, fused_exists

if TYPE_CHECKING:
    from estimator.peft.base import Adapter

MAX_LAYERS = 100_000  # layers that may be looked at one by one; no model comes near

Operation = Product | Kernel
# Attention.form and StateSpace.kind that blocks and scan do not describe
STEPPED = ("pooled", "differential", "dynamic_mask", "routed", "gated_positions", "channel_delta", "time_mix", "rg_lru")


def operations(
    arch: Architecture, work: PassSizes, train: Trainable = NONE, adapter: Adapter | None = None
) -> list[Operation]:
    """Products and all other kernels of one pass, in order; the loss and its gradient too in training."""
    training = work.mode == "training"
    if not training:
        train = train.still()
    decode = work.mode == "decode"
    s = 1 if decode else work.s + train.virtual
    always = (work.context if decode else s) if arch.encoder_tokens is None else arch.encoder_tokens
    encoder = work.encoder if work.encoder is not None else always
    fused = work.engine or (work.fused and (work.forced or fused_exists(arch, work.uncapped)))
    caches = arch.kind != "encoder" and not (training and work.checkpointing)
    rows = Rows(work.b, s, work.context, encoder, decode, fused, train.prefix, caches, work.fused_scan)
    walk = _Walk(arch, work, train, training)
    out: list[Operation] = []
    encoder_grad = False
    two_sided = arch.kind == "encoder-decoder"
    if two_sided and not decode:
        hears = any(isinstance(x, Conv) for x in arch.encoder_embeddings)  # and so reads no token
        shared = () if hears else _tables(arch.embeddings)
        grad = walk.embed(out, (*shared, *arch.encoder_embeddings), replace(rows, s=encoder))
        grad = walk.stack(out, [g for g in arch.layers if g.side == "encoder"], replace(rows, s=encoder), grad, False)
        encoder_grad = walk.chain(out, arch.encoder_final, replace(rows, s=encoder), grad, p.EMBEDDING)
    grad = walk.embed(out, arch.embeddings, rows)
    walk.chain(out, arch.beside, rows, grad, p.EMBEDDING)
    groups = [g for g in arch.layers if not two_sided or g.side == "decoder"]
    grad = walk.stack(out, groups, rows, grad, encoder_grad)
    grad = walk.chain(out, arch.final, rows, grad, p.EMBEDDING)
    walk.pool(out, replace(rows, s=1), grad)
    walk.head(out, rows, grad)
    if any(beyond(g) for g in arch.layers):
        from estimator.work.run import products

        kernels = [q for q in out if isinstance(q, Kernel)]
        out = [*products(arch, work, adapter, train.weight if training and adapter is None else None), *kernels]
    return [replace(q, forward=q.engine) if isinstance(q, Kernel) else q for q in out] if work.engine else out


def beyond(layer: Layer) -> bool:
    """Whether the layer multiplies in ways that only the simulated step knows: its products are taken from there."""
    mixer = layer.mixer
    own = mixer.form in STEPPED if isinstance(mixer, Attention) else getattr(mixer, "kind", "") in STEPPED
    idle = isinstance(layer.mlp, MoE) and bool(layer.mlp.idle)
    return own or idle or bool(layer.streams) or layer.ahead is not None


def _tables(parts: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(x for x in parts if isinstance(x, Lookup))


@dataclass(slots=True)
class _Walk:
    arch: Architecture
    work: PassSizes
    train: Trainable
    training: bool

    def embed(self, out: list[Operation], parts: tuple[Any, ...], rows: Rows) -> bool:
        """Tables, then their norms and projections; returns whether the result requires a gradient."""
        grad = self.training and (self.train.inputs or self.work.checkpointing)
        if not _tables(parts) and self.training:  # a model without embeddings: what feeds it trains where all does
            grad = grad or self.train.weight("")
        grad = grad or any(self.train.weight(f"{x.name}.weight") for x in _tables(parts))
        tape, tied = Walk(rows, self.train), self.arch.tied and self.arch.has_head
        for i, table in enumerate(_tables(parts)):
            grad = tape.adapters(table.name, False, rows.tokens) or grad
            trained = self.training and self.train.weight(f"{table.name}.weight")
            grad = grad or tape.touches(table.name)
            tape.ops.append(
                k.table(table.name, rows.tokens * table.width, table.rows * table.width, trained, tied and i == 0)
            )
        out += tape.ops
        return self.chain(out, parts, rows, grad, p.EMBEDDING)

    def chain(self, out: list[Operation], parts: tuple[Any, ...], rows: Rows, grad: bool, part: str) -> bool:
        """Norms and linear layers outside the stack."""
        tape = Walk(rows, self.train)
        for x in parts:
            if isinstance(x, Linear):
                grad = tape.linear(x, grad, part)
            elif isinstance(x, Norm):
                grad = tape.norm(x, grad)
            elif isinstance(x, Conv):
                grad = tape.convolution(x, grad, part)
        out += tape.ops
        return grad

    def pool(self, out: list[Operation], rows: Rows, grad: bool) -> None:
        """Layers that see one token a sequence. A bare encoder's loss is on its hidden states: its pooler has no
        backward pass."""
        idle = self.arch.facts.get("class") == "Model"
        walk = replace(self, train=self.train.still()) if idle else self
        walk.chain(out, self.arch.pooler, rows, grad and not idle, p.HEAD)

    def head(self, out: list[Operation], rows: Rows, grad: bool) -> None:
        """The output head: its own dense layers, then the vocabulary; one position a sequence with ``last``."""
        arch = self.arch
        at = replace(rows, s=1) if self.work.last and arch.kind == "decoder" else rows
        grad = self.chain(out, arch.head_extras, at, grad, p.HEAD)
        if arch.head is not None:
            self.chain(out, (arch.head,), at, grad, p.HEAD)
        elif arch.tied and arch.has_head:
            table = next(x for x in arch.embeddings if isinstance(x, Lookup))
            dw = self.train.weight(f"{table.name}.weight")
            size = table.rows * table.width
            out.append(Product("lm_head", p.HEAD, at.tokens, table.width, table.rows, left=grad, right=dw, weight=size))
        if self.training and arch.has_head:
            out.append(k.loss(at.tokens * arch.vocab, True))

    def stack(self, out: list[Operation], groups: list[Layer], rows: Rows, grad: bool, encoder_grad: bool) -> bool:
        """All layers of one side; returns whether their output requires a gradient."""
        units = [u for g in groups for u in self._units(g)]
        first = self.train.first
        start = None if grad else self._start(units, rows, encoder_grad, first)
        for unit in units:
            parts = unit.segments(first, start, grad) if self.training else [(unit.times, True, False)]
            for times, active, flows in parts:
                ops, _ = self._layer(unit, rows, flows, encoder_grad, active)
                name = label(unit.group)
                out += [q.in_layers(times, name) for q in ops]
        return grad or start is not None

    def _units(self, group: Layer) -> list[_Unit]:
        """The group, split by which of its adapters each layer holds where not all layers hold all."""
        weights = [w for part in group.parts() for w in part.weights()]
        names = {w.module for w in weights} | {w.name for w in weights}
        count = group.times if group.indices is None else len(group.indices)
        partial = {n: at for n, at in self.train.layers.items() if n in names and not _covers(at, group.indices, count)}
        if not partial:
            return [_Unit(group, group.times, group.indices, self.train)]
        if group.times > MAX_LAYERS:
            raise InputError(f"num_hidden_layers={int(group.times)} is out of range (at most {MAX_LAYERS})")
        indices = group.indices if group.indices is not None else tuple(range(int(group.times)))
        kinds: dict[frozenset[str], list[int]] = {}
        for i in indices:
            kinds.setdefault(frozenset(n for n, at in partial.items() if i not in at), []).append(i)
        return [
            _Unit(group, len(at), tuple(at), replace(self.train, beside=_without(self.train.beside, missing)))
            for missing, at in kinds.items()
        ]

    def _start(self, units: list[_Unit], rows: Rows, encoder_grad: bool, first: Any) -> Any:
        """The lowest layer whose output requires a gradient although its input does not, or None."""
        found: list[Any] = []
        for unit in units:
            if not self._layer(unit, rows, False, encoder_grad, True)[1]:
                continue
            if unit.indices is None:
                found += [first] if first < unit.times else []
            else:
                found += [i for i in unit.indices if i >= first][:1]
        return minimum(*found) if found else None

    def _layer(
        self, unit: _Unit, rows: Rows, grad: bool, encoder_grad: bool, active: bool
    ) -> tuple[list[Operation], bool]:
        tape = Walk(rows, unit.train, active=active)
        end = layer(tape, unit.group, grad, encoder_grad, self.work.dropout if self.training else 0.0)
        ops = tape.ops
        if self.work.checkpointing and self.training:
            ops = recomputed(ops)
        return ops, end


@dataclass(frozen=True, slots=True)
class _Unit:
    """Layers of one group that hold the same adapters."""

    group: Layer
    times: Any
    indices: tuple[int, ...] | None
    train: Trainable

    def segments(self, first: Any, start: Any, grad: bool) -> list[tuple[Any, bool, bool]]:
        """(layers, active, input requires a gradient) of the parts in which these flags agree."""
        if self.indices is None:
            if grad:
                return (
                    [(first, False, True), (self.times - first, True, True)]
                    if first != 0
                    else [(self.times, True, True)]
                )
            if start is None:
                return [(self.times, False, False)]
            parts = [(start, False, False), (1, True, False), (self.times - start - 1, True, True)]
            return [part for part in parts if part[0] != 0]
        counts: dict[tuple[bool, bool], int] = {}
        for i in self.indices:
            flows = grad or (start is not None and i > start)
            counts[i >= first, flows] = counts.get((i >= first, flows), 0) + 1
        if len(counts) == 1:
            (active, flows), _ = next(iter(counts.items()))
            return [(self.times, active, flows)]
        return [(n, active, flows) for (active, flows), n in counts.items()]


def _covers(at: frozenset[int], indices: tuple[int, ...] | None, count: Any) -> bool:
    """Whether the layers ``at`` hold all of a group's."""
    return len(at) == count if indices is None else at.issuperset(indices)


def _without(beside: Mapping[str, Any], missing: frozenset[str]) -> dict[str, Any]:
    return {k: v for k, v in beside.items() if k not in missing}


def layer(tape: Walk, group: Layer, grad: bool, encoder_grad: bool, dropout: float) -> bool:
    """One layer under its wiring; returns whether its output requires a gradient."""
    norms = dict(zip(group.norm_roles, group.norms, strict=True))

    def norm(role: str, flag: bool) -> bool:
        return tape.norm(norms[role], flag) if role in norms else flag

    def mix(flag: bool) -> bool:
        if beyond(group):  # its products are the step's: here only whether its output requires a gradient
            flags = [tape.linear(x, flag, p.PROJECTION) for x in group.linears()]  # every one runs
            return any(flags)
        run: Callable[..., bool] = blocks.attention if isinstance(group.mixer, Attention) else scan.mixer
        second = scan.mixer(tape, group.second, flag) if group.second is not None else False
        return run(tape, group.mixer, flag) or second

    def feed(flag: bool) -> bool:
        if group.mlp is None:
            return flag
        run: Callable[..., bool] = feedforward.moe if isinstance(group.mlp, MoE) else feedforward.mlp
        return run(tape, group.mlp, flag)

    d = tape.rows.tokens * group_width(group)

    def add(flag: bool) -> bool:
        """Dropout, a scale where the model has one, then the residual addition."""
        tape.dropout(dropout, flag, d)
        if group.residual_scale:
            tape.ops.append(k.scale("residual", d, flag))
        tape.ops.append(k.add("residual", d, flag))
        return flag

    grad = tape.touches(layer_path(group)) or grad
    if isinstance(group.mixer, NoMixer):
        return add(feed(norm("pre_mlp", grad)) or grad)
    inner = norm("input", grad)
    mixed = norm("post_mixer", mix(inner))
    if group.wiring == "parallel":
        tape.ops.append(k.add("residual", d, mixed))
        return add(feed(norm("pre_mlp", grad) if "pre_mlp" in norms else inner) or mixed or grad)
    grad = add(grad or mixed)
    if group.cross is not None:
        grad = add(
            norm("post_cross", blocks.attention(tape, group.cross, norm("pre_cross", grad), encoder_grad)) or grad
        )
    grad = add(norm("post_mlp", feed(norm("pre_mlp", grad))) or grad) if group.mlp is not None else grad
    for chain in group.chains:
        grad = add(feedforward.chain(tape, chain, grad) or grad)
    return grad


def layer_path(group: Layer) -> str:
    """The layer's own module: what stands before and at the layer's number in its names."""
    head, number, _ = last_matrix(group).name.partition("{i}")
    return head + number


def group_width(group: Layer) -> Any:
    """The width of the residual stream: what the layer's last matrix puts out."""
    return last_matrix(group).d_out


def last_matrix(group: Layer) -> Linear:
    """The one that puts out what is added to the stream."""
    mixer = group.mixer
    if isinstance(mixer, NoMixer):
        mlp = group.mlp.shared if isinstance(group.mlp, MoE) else group.mlp
        assert mlp is not None
        return mlp.linears[-1]
    return mixer.out if isinstance(mixer, Attention) else mixer.linears[-1]


def recomputed(ops: list[Operation]) -> list[Operation]:
    """Mark what non-reentrant checkpointing runs again: everything before the last operation that keeps something.

    torch.utils.checkpoint stops as soon as the last kept tensor is back, and a product keeps its operands before it
    runs, so a layer's last product is not recomputed.
    """
    savers = [i for i, q in enumerate(ops) if q.saves]
    return [replace(q, recomputed=True) if i < savers[-1] else q for i, q in enumerate(ops)] if savers else ops
