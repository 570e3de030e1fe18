"""A whole model on the tape: embeddings, the stack of layers, head and loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from estimator.families.base import (
    POSITION,
    Architecture,
    Attention,
    Copies,
    Extra,
    Layer,
    Linear,
    Lookup,
    Norm,
    Streams,
)
from estimator.families.towers import Conv
from estimator.records import dataclass
from estimator.stack import across, moves, ops
from estimator.stack.codes import LOSSES
from estimator.stack.layers import WIRING
from estimator.stack.losses import causal_loss, divided_head, head_weight, score_loss
from estimator.stack.machine import Machine
from estimator.stack.masks import masks
from estimator.stack.nn import activation, convolution, factor, linear, product
from estimator.stack.norms import norm
from estimator.stack.products import label
from estimator.stack.prompt import prompted
from estimator.stack.tape import F32, Leaf, Param, Tensor


@dataclass(slots=True)
class Segment:
    """Layers that cost the same: ``times`` of ``layer``; ``trains``: None for all that the run trains, False frozen.

    ``without``: the adapted modules whose adapters these layers do not have, or (module, which of them);
    ``stores``: later layers reuse its keys.
    """

    layer: Layer
    times: Any
    trains: bool | None = None
    without: frozenset[Any] = frozenset()
    stores: bool = False


@dataclass(slots=True)
class Forward:
    """What a forward pass leaves for the backward pass: the loss (or what a stage hands on) and the segments' ranges of
    nodes."""

    loss: Tensor | None = None
    bounds: list[tuple[int, int, Any]] = field(default_factory=list)
    held: list[Tensor] = field(default_factory=list)  # what the caller names until the step is over


def rope_tables(m: Machine, w: int) -> Any:
    """cos and sin of the rotary embedding, made once for all layers in the width of the hidden states."""
    made: dict[Any, tuple[Tensor, Tensor]] = {}

    def rope(machine: Machine, a: Attention, halves: int = 1) -> tuple[Tensor, Tensor]:
        """``halves`` 2: the angles stand once, not once for each half of a head (gpt-oss)."""
        width = F32 if a.rotary == "promoted" else w
        key = int(a.rope_dim), width, halves
        if key not in made:
            where, machine.t.where = machine.t.where, "rotary embedding"
            n = machine.s * a.rope_dim // halves
            with machine.t.once():
                made[key] = (machine.t.alloc(n, width, "cos"), machine.t.alloc(n, width, "sin"))
            machine.t.where = where
        return made[key]

    return rope


def embed(m: Machine, arch: Architecture, kept: list[Tensor] | None = None, wants: bool = False) -> Tensor:
    """Token (and position) embeddings; ``kept``: what a decoder's forward pass still names when it has their sum.

    ``wants``: the input embeddings are made to want a gradient (enable_input_require_grads).
    """
    t = m.t
    if m.received is not None:
        return m.received
    kept = [] if kept is None else kept
    x: Tensor | None = None
    scaled = arch.facts.get("embed_scale")  # the table's module scales what it gives, or the model does
    waiting: list[Tensor] = []  # positions as wide as the layers, where the tokens are projected first
    for part in arch.embeddings:
        if isinstance(part, Lookup):
            rows = m.s if part.role == POSITION else m.rows
            found = looked_up(m, part, rows, wants and x is None, scaled == "table" and x is None)
            if x is not None and part.width != x.n // m.rows:
                waiting.append(found)
                continue
            if x is not None:
                kept += [x, found]
            x = found if x is None else ops.add(t, x, found, "embeddings")
        elif isinstance(part, Norm) and x is not None:
            kept.append(x)
            x = norm(m, x, part)
        elif isinstance(part, Linear):
            if x is not None and part.d_in != x.n // m.rows:  # another table's words, put among the tokens'
                x = ops.add(t, x, linear(m, t.alloc(m.rows * part.d_in, m.w, "input"), part), "embeddings")
            else:
                x = linear(m, t.alloc(m.rows * part.d_in, m.w, "input") if x is None else x, part)
            while waiting:
                kept += [x, waiting[0]]
                x = ops.add(t, x, waiting.pop(0), "embeddings")
        elif isinstance(part, Conv):
            x = convolution(m, x, part)
            if part.beside:  # a class token
                x = ops.cat(t, (t.alloc(m.b * part.beside * part.d_out, x.w, "class token"), x))
    if x is None:  # a model without embeddings: what feeds it trains where all does
        x = Param(m.rows * arch.hidden, m.w, "", m.trains(""))
        x.st = t.alloc(x.n, x.w, "hidden states").st
    for part in arch.embeddings:
        if isinstance(part, Extra):  # a class token, positions that are a bare parameter
            own: Tensor = m.extra(part)
            x = ops.add(t, x, ops.piece(t, own, x.n) if own.n > x.n else own, "embeddings")
    if arch.facts.get("streams"):
        x = ops.repeat(t, x, arch.facts["streams"], "residual streams")
    if scaled == "stream":
        x = ops.scale(t, x, "scaled embeddings")
    return ops.dropout(t, x) if m.drops.embedding else x


def looked_up(m: Machine, table: Lookup, rows: Any, wants: bool = False, scales: bool = False) -> Tensor:
    """A look-up, scaled where its module does so, and the table's adapter (peft tuners/lora/layer.py, Embedding): rows
    of A, multiplied with B."""
    t = m.t
    if table.across:
        return across.embedding(t, m.table(table), rows * table.width, m.tensor, m.tied)
    found = ops.embedding(t, m.table(table), rows * table.width)
    moves.fused(t, "embedding", 2 * found.n * found.w)
    if scales:
        found = ops.scale(t, found, "scaled embeddings")
    spec = m.adapters(table.name)
    if spec is not None:
        w = found.w
        low = ops.embedding(t, m.param(f"{table.name}.lora_A", spec.size_a, spec.width, True), rows * spec.rank)
        b = m.param(f"{table.name}.lora_B", spec.size_b, spec.width, True)
        high = factor(t, low, b, rows * table.width, "LoRA B(A(x))", table.name, 0, rows)
        del low
        high = ops.scale(t, high, "LoRA output")
        found = ops.to(t, ops.add(t, found, high, "output with LoRA"), w)
        del high
    if wants and found.node is None:
        # Unsloth's, whose layers' inputs go to the host, was not seen to stay
        found.node = Leaf(found if t.keeper is None else Param(found.n, found.w))
    return found


def pooled(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """The layers that see one token a sequence: a pooler, a classifier."""
    width = next((part.d_in for part in arch.pooler if isinstance(part, Linear)), x.n // m.rows)
    x = ops.piece(m.t, x, m.b * width)  # DINOv2: the class token beside the patches' mean
    with m.t.at("head"):
        for part in arch.pooler:
            if isinstance(part, (Norm, Linear)):
                x = norm(m, x, part, m.b) if isinstance(part, Norm) else linear(m, x, part, m.b)
    return x


def run_layer(m: Machine, x: Tensor, segment: Segment, at: Any, checkpointing: bool) -> Tensor:
    layer = segment.layer
    wiring = at.get("layer") or WIRING[layer.wiring]
    m.stores = segment.stores
    if m.layered is not None and m.layered[0] not in segment.without:
        around, m.layered = m.layered, None
        x = around[1](m, x, lambda h: run_layer(m, h, segment, at, checkpointing))
        m.layered = around
        return x
    if not checkpointing:
        x = wiring(m, x, layer, at)
        m.kept_probs, m.probs = (m.probs if "probs" in layer.keeps else None), None
        return x

    def call(h: Tensor) -> Tensor:
        try:
            return wiring(m, h, layer, at)
        finally:
            m.probs = None

    return m.t.checkpoint(m.as_now(call), x)


def stack(m: Machine, x: Tensor, segments: list[Segment], at: Any, out: Forward, checkpointing: bool) -> Tensor:
    """All layers; each segment is recorded once and repeated."""
    t = m.t
    for i, segment in enumerate(segments):
        m.next_layer()
        m.layer_key, m.segment_trains, m.segment_without = i, segment.trains, segment.without
        if t.work is not None:
            t.layer = label(segment.layer)
        low = t.seq
        t.carried += [x.st.record, *(s.st.record for s in m.beside.values())]
        with t.repeated(segment.times), t.at("layer"):
            if m.wrap is not None:
                m.wrap.before_layer(len(out.bounds), segment.layer, len(m.leaves))
            x = run_layer(m, x, segment, at, checkpointing)
            if t.keeper is not None:
                t.keeper.flush()
            if m.wrap is not None:
                m.wrap.after_layer(len(out.bounds), m.leaves)
        out.bounds.append((low, t.seq, segment.times))
    t.layer, m.segment_without = "", frozenset()
    return x


def transformed(m: Machine, x: Tensor, arch: Architecture, rows: Any = None) -> Tensor:
    """The head's own dense layers and norms, before its output matrix (BERT's prediction head)."""
    for part in arch.head_extras:
        if isinstance(part, Linear):
            x = activation(m.t, linear(m, x, part, rows), str(arch.facts.get("head_act", "gelu")))
        elif isinstance(part, Norm):
            x = norm(m, x, part, rows)
    return x


def head(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """The output matrix, over the last position or all."""
    rows = m.rows if m.logits == "all" else m.b
    if m.logits != "all":
        x = Tensor(x.n // m.s, x.w, x.st)
    x = transformed(m, x, arch, rows)
    pure = "residual_fp32" in arch.facts  # stacks of state spaces: lm_head(x.to(its dtype)).float()
    if pure:
        x = ops.to(m.t, x, m.w)
    if m.tensor != 1:
        made = divided_head(m, x, arch)
    elif arch.head is not None and not arch.always_tied:
        made = linear(m, x, arch.head, rows)
    else:
        made = product(m.t, x, head_weight(m, arch), None, rows * arch.vocab, "logits", name="lm_head", rows=rows)
    if pure:
        made = ops.to(m.t, made, F32)
    if arch.facts.get("logit_scale"):
        made = ops.scale(m.t, made, "scaled logits")
    if arch.facts.get("logit_softcap"):
        made = ops.scale(m.t, ops.tanh(m.t, ops.scale(m.t, made)))
    return made


def joined(m: Machine, x: Tensor, part: Streams | Copies) -> Tensor:
    """One stream of many, before the final norm."""
    from estimator.stack.altup import closed
    from estimator.stack.streams import collapsed

    return closed(m, x, part) if isinstance(part, Copies) else collapsed(m, x, part)


# what runs between the layers and the head
FINAL: dict[type, Any] = {Norm: norm, Linear: linear, Streams: joined, Copies: joined}


@contextmanager
def unit(m: Machine, out: Forward, arch: Architecture, which: int) -> Iterator[None]:
    """The token table (0) or the output matrix (1), where what shards the run takes them for units of their own."""
    if m.wrap is None or not m.wrap.apart:
        yield
        return
    low, key = m.t.seq, len(out.bounds)
    m.wrap.before_layer(key, m.wrap.tables[which], len(m.leaves))
    yield
    m.wrap.after_layer(key, m.leaves)
    out.bounds.append((low, m.t.seq, 1))


def causal_lm(m: Machine, arch: Architecture, segments: list[Segment], checkpointing: bool) -> Forward:
    """A decoder's forward pass, with ForCausalLMLoss in training (transformers loss/loss_utils.py)."""
    t = m.t
    out = Forward()
    parts: list[Tensor] = []
    with t.at("embedding"), unit(m, out, arch, 0):
        inputs = embed(m, arch, parts, checkpointing and m.inputs_want_grad)
    if m.prompted:
        inputs = prompted(m, inputs, arch.hidden)
    at: dict[str, Any] = {"masks": masks(m, arch), "rope": rope_tables(m, inputs.w), "facts": arch.facts,
                          "shared": {}}  # fmt: skip
    if any(layer.ahead for layer in arch.layers):
        at["first"] = ops.copy(t, inputs, "embeddings, cloned")
    if arch.beside:
        from estimator.stack.altup import opened
        from estimator.stack.beside import inputs_of_layers

        at["beside"] = inputs_of_layers(m, inputs, arch)
        inputs = opened(m, inputs, arch.beside, parts)
    if parts:  # hidden_states = inputs_embeds + position_embeds: the loop over the layers forgets the sum
        given, inputs = [inputs], parts[0]
        x = stack(m, given.pop(), segments, at, out, checkpointing)
    else:
        x = stack(m, inputs, segments, at, out, checkpointing)
    m.segment_trains, m.kept_probs = None, None
    m.beside.pop("state", None)
    with t.at("final norm"):
        for part in arch.final:
            x = FINAL[type(part)](m, x, part)
    del inputs, parts, at
    if m.hands_on:
        out.loss = x
        t.leave_autocast()
        return out
    if m.training and m.loss != "full" and arch.has_head:
        with t.at("loss"), unit(m, out, arch, 1):
            out.loss = LOSSES[m.loss](m, x, arch)
            out.loss = out.loss if m.after is None else m.after(m, arch, out.loss, None)
        out.held, m.named = m.named if m.hold_outputs else [], []
        t.leave_autocast()
        return out
    with t.at("head"), unit(m, out, arch, 1):
        logits = head(m, x, arch) if arch.has_head else x
    if m.received is not None:  # a pipeline's schedule takes the loss, when the stage's forward pass has returned
        del x
        m.returns()
    if m.training:
        with t.at("loss"):
            logits = ops.to(t, logits, F32) if m.release.upcasts and arch.has_head else logits
            pooled = arch.facts.get("class") == "ForSequenceClassification"
            out.loss = score_loss(m, logits) if pooled else causal_loss(m, logits, arch)
            out.loss = out.loss if m.after is None else m.after(m, arch, out.loss, logits)
        out.held = m.hand_on(logits)
    t.leave_autocast()
    return out
