"""Encoder-decoders: T5 with its relative position biases, BART with learned positions."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Architecture, Attention, Layer, Lookup, Norm
from estimator.families.towers import Conv
from estimator.stack import moves, ops
from estimator.stack.attention import CROSS, attend, cached, drop_cache, eager, efficient
from estimator.stack.layers import by_role, feed
from estimator.stack.losses import cross_entropy
from estimator.stack.machine import Machine
from estimator.stack.model import Forward, Segment, head, pooled, stack
from estimator.stack.nn import activation, convolution, linear
from estimator.stack.norms import norm
from estimator.stack.prompt import prompted
from estimator.stack.tape import BOOL, HALF, I64, Leaf, Tensor
from estimator.stack.unfused import math

BUCKETS = 32  # T5Config.relative_attention_num_buckets


def seq2seq(m: Machine, arch: Architecture, segments: list[Segment], checkpointing: bool) -> Forward:
    """T5ForConditionalGeneration.forward, BartForConditionalGeneration.forward."""
    t = m.t
    out = Forward()
    sides = {side: [x for x in segments if x.layer.side == side] for side in ("encoder", "decoder")}
    keep, s = m.cache, m.s
    memory = m.tables.get("encoder")
    if memory is None:
        m.cache = None
        tokens, m.s, m.kv = (m.s, m.kv), m.enc_tokens, m.enc_tokens
        memory = one_side(m, arch, "encoder", sides["encoder"], None, out, checkpointing)
        m.cache = keep
        m.s, m.kv = tokens
        if keep is not None:
            m.tables["encoder"] = memory
    if arch.trains_cached and m.training and not checkpointing:
        m.cache = {}  # the decoder's copy of the config still says use_cache
    x = one_side(m, arch, "decoder", sides["decoder"], memory, out, checkpointing)
    with t.at("head"):
        if arch.always_tied:  # and scales what the table then multiplies
            x = ops.scale(t, x, "scaled output")
        logits = head(m, x, arch) if arch.has_head else pooled(m, x, arch) if arch.pooler else x
        if arch.buffers:
            logits = ops.add_spread(t, logits, "logits and bias", max(logits.w, m.w))
    if m.training:
        with t.at("loss"):
            out.loss = cross_entropy(t, logits, m.rows)
        out.held = m.hand_on(logits, memory)
        del logits, x
        if m.cache is not None:
            drop_cache(m)
    m.s = s
    t.leave_autocast()
    return out


def one_side(m: Machine, arch: Architecture, side: str, segments: list[Segment], memory: Tensor | None, out: Forward,
             checkpointing: bool) -> Tensor:  # fmt: skip
    """The embeddings, layers and final norm of one side."""
    t = m.t
    with t.at(f"{side} embedding"):
        x, named = embedded(m, arch, side, checkpointing and m.inputs_want_grad)
        if m.prompted and (side == "encoder" or m.both_prompted):
            x = prompted(m, x, arch.hidden, side == "decoder")
    at: dict[str, Any] = {
        "memory": memory,
        "bias": {},
        "layer": encdec_layer,
        "relative": relative(arch),
        "each": bool(arch.facts.get("bias_each")),
        "checkpointing": checkpointing,
    }
    if not at["relative"]:
        at["mask"] = eager_mask(m, side)
    x = stack(m, x, segments, at, out, checkpointing)
    for part in arch.encoder_final if side == "encoder" else arch.final:
        x = norm(m, x, part) if isinstance(part, Norm) else linear(m, x, part)
    del named
    return ops.dropout(t, x) if m.drops.final else x


def embedded(m: Machine, arch: Architecture, side: str, wants: bool = False) -> tuple[Tensor, list[Tensor]]:
    """One side's tokens and positions, and what the forward pass still names after their sum. Whisper's encoder hears
    sound through convolutions. ``wants``: the tokens' are made to want a gradient."""
    t, named = m.t, []
    parts = arch.encoder_embeddings if side == "encoder" else arch.embeddings[1:]
    x: Tensor | None = None
    if not any(isinstance(part, Conv) for part in parts):
        shared = m.table(next(p for p in arch.embeddings if isinstance(p, Lookup)))
        x = ops.embedding(t, shared, m.rows * arch.hidden)
        if parts:
            x = ops.scale(t, x, "scaled embeddings")
        if wants and x.node is None:
            x.node = Leaf(x)
        named.append(x)
    for part in parts:
        if isinstance(part, Conv):
            x = activation(t, convolution(m, x, part), "gelu")
        elif isinstance(part, Lookup) and x is not None:
            rows = m.rows if side == "encoder" else m.s
            positions = ops.embedding(t, m.table(part), rows * part.width)
            named.append(positions)
            x = ops.add(t, x, positions, "embeddings")
        elif isinstance(part, Norm) and x is not None:
            x = norm(m, x, part)
    assert x is not None
    return ops.dropout(t, x) if m.drops.embedding else x, named


def relative(arch: Architecture) -> bool:
    """Whether positions are biases of the scores (T5)."""
    return any(a.position == "relative" for a in arch.attentions)


def eager_mask(m: Machine, side: str) -> Tensor | None:
    if m.fused or side == "encoder":
        return None
    return m.t.alloc(m.s * m.kv, m.w, "attention mask")


def encdec_layer(m: Machine, x: Tensor, layer: Layer, at: Any) -> Tensor:
    """Self-attention, attention over the encoder, MLP; norms before (T5) or after (BART)."""
    norms = by_role(layer)
    t = m.t
    pre = "input" in norms
    assert isinstance(layer.mixer, Attention)
    assert layer.mlp is not None
    h = norm(m, x, norms["input"]) if pre else x
    with t.at("attention", layer.mixer):
        h = attention(m, h, layer.mixer, at, None)
        h = ops.dropout(t, h) if m.drops.mixer else h
    x = ops.add(t, x, h, "residual")
    if not pre:
        x = norm(m, x, norms["post_mixer"])
    if layer.cross is not None:
        h = norm(m, x, norms["pre_cross"]) if pre else x
        with t.at("cross-attention", layer.cross):
            h = attention(m, h, layer.cross, at, at["memory"])
            h = ops.dropout(t, h) if m.drops.mixer else h
        x = ops.add(t, x, h, "residual")
        if not pre:
            x = norm(m, x, norms["post_cross"])
    h = norm(m, x, norms["pre_mlp"]) if pre else x
    h = feed(m, h, layer.mlp)
    x = ops.add(t, x, h, "residual")
    return x if pre else norm(m, x, norms["post_mlp"])


def attention(m: Machine, x: Tensor, a: Attention, at: Any, memory: Tensor | None) -> Tensor:
    """T5Attention, BartAttention."""
    q = linear(m, x, a.projections[0])
    if a.query_scale == "projected":
        q = ops.scale(m.t, q, "scaled queries")
    key = (m.layer_key, CROSS if a.cross else "self")
    if memory is not None and m.cache is not None and key in m.cache:
        k, v = m.cache[key][:2]
    else:
        source = x if memory is None else memory
        rows = m.rows if memory is None else m.b * m.enc_tokens
        k, v = linear(m, source, a.projections[1], rows), linear(m, source, a.projections[2], rows)
        moves.by_heads(k, v)
        if a.causal or a.cross:
            k, v = cached(m, a, k, v, key)
    moves.by_heads(q)
    s_k = m.enc_tokens if memory is not None else m.kv
    if at["relative"]:
        out = biased(m, q, k, v, a, at, s_k)
    elif not m.fused:
        out = eager(m, q, k, v, a, m.s, s_k, None if a.cross else at["mask"], HALF)
    else:
        out = attend(m, q, k, v, a, None)
    return linear(m, out, a.out)


def position_bias(m: Machine, a: Attention, at: Any, w: int, pairs: Any) -> Tensor:
    """A learned number of every head for each pair of tokens; over the encoder zeros, which T5 makes want a gradient
    where its layers are checkpointed (T5Attention.forward)."""
    t, n = m.t, pairs * a.heads
    if a.cross:
        bias = t.alloc(n, w, "position bias")
        if at["checkpointing"] and m.training and t.grad and not at["each"]:
            bias.node = Leaf(bias)
        return bias
    side = "decoder" if a.causal else "encoder"
    table = m.param(f"{side}.{'{i}.' if at['each'] else ''}relative_attention_bias", BUCKETS * a.heads)
    return ops.embedding(t, table, n, t.alloc(pairs, I64, "distances"))


def biased(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, at: Any, s_k: Any) -> Tensor:
    """T5: a learned bias (permuted, hence PyTorch's math path) or, over the encoder, zeros."""
    t = m.t
    kind = "cross" if a.cross else "self"
    bias, maker = at["bias"].get(kind, (None, 0))
    again = t.again is not None and maker == id(t.frame)  # the layer that made it is run again
    if bias is None or again:
        bias = position_bias(m, a, at, q.w, m.s * s_k)
        if not at["each"] and not again:  # UMT5 makes one for each layer
            at["bias"][kind] = bias, id(t.frame)
    if not m.fused:
        return eager(m, q, k, v, a, m.s, s_k, bias, HALF)
    if a.cross:
        bias = bias if bias.node is None or m.b == 1 else ops.expand(t, bias, m.b)
        return efficient(m, q, k, v, a, m.s, bias, a.head_dim)
    if a.causal and m.s != 1:
        mask = t.alloc(m.s * s_k, BOOL, "causal mask")
        moves.log(t, "positions", 2, moved=(m.s + s_k) * I64)
        moves.log(t, "causal mask", strided=m.s * s_k)
        moves.log(t, "smallest number")
        bias = t.emit("masked bias", bias.n, bias.w, (bias,), ops.where_bwd, mask.st)
        del mask
    half = t.autocast(bias)  # the caller names the mask that it has made while SDPA runs on 16 bits of it
    return math(m, t.autocast(q), t.autocast(k), t.autocast(v), a, m.s, s_k, half, False)
