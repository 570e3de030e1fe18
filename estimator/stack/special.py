"""Attentions that a family's modeling file writes out itself: Falcon, MPT, BLOOM, GPT-J, GPT-Neo, gpt-oss.

Source: transformers 5, models/{falcon,mpt,bloom,gptj,gpt_neo,gpt_oss}/modeling_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Attention
from estimator.stack import gradients, moves, ops
from estimator.stack.attention import bmm, cached, efficient, flash, rotate, rotate_part
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.shapes import masked
from estimator.stack.tape import F32, I64, GradFn, Tape, Tensor
from estimator.stack.unfused import math


def falcon(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """FalconAttention: SDPA is not told of grouped queries; a single key head is broadcast in the math path."""
    t = m.t
    fused = linear(m, x, a.projections[0])
    if a.cached_heads is not None:  # the new decoder writes keys and values out for every query head
        q = ops.piece(t, fused, m.rows * a.heads * a.head_dim)
        k, v = (
            ops.repeat(t, at_index(t, fused, m.rows * a.kv_heads * a.head_dim, what), a.heads // a.kv_heads)
            for what in ("keys", "values")
        )
        q = ops.copy(t, q)
    else:  # a single key head is picked by its index, which copies; others are views
        q, k, v = (ops.piece(t, fused, m.rows * h * a.head_dim) for h in (a.heads, a.kv_heads, a.kv_heads))
        if a.kv_heads != a.heads:
            k, v = ops.copy(t, k), ops.copy(t, v)
    moves.by_heads(q, k, v)
    if a.position == "rope":
        cos, sin = at["rope"](m, a)
        q, k = rotate(t, q, cos, sin), rotate(t, k, cos, sin)
    k, v = cached(m, a, k, v)
    mask = at["masks"](m, a)
    if not m.fused:
        groups = 1 if a.cached_heads is not None else a.heads // a.kv_heads
        if groups != 1:
            k, v = ((ops.repeat if m.b > 1 else ops.expand)(t, y, groups) for y in (k, v))
        n = m.b * a.heads * m.s * m.kv
        scores = bmm(t, q, k, n, a.head_dim, (False, False), "attention scores", True)  # scaled in place
        wide = biased = scores
        if a.position == "alibi":  # in fp32, and every step keeps its name until the module returns
            wide = ops.to(t, scores, F32)
            biased = ops.add_spread(t, wide, "scores with alibi")
        summed = ops.add_spread(t, biased, "masked scores")
        probs = ops.softmax(t, summed, scores.w)
        del summed
        m.hold(probs)
        out = ops.copy(t, bmm(t, probs, v, m.rows * a.heads * a.head_dim, m.kv, (False, False), "attention output"))
        out = linear(m, out, a.out)
        del scores, wide, biased, probs
        return out
    if a.kv_heads != a.heads and a.cached_heads is None:
        out = math(m, t.autocast(q), t.autocast(k), t.autocast(v), a, m.s, m.kv, mask, mask is None and m.s != 1)
    elif mask is None:
        out = ops.copy(t, flash(m, q, k, v, a, m.s, m.kv), "attention output, transposed")
    else:
        out = efficient(m, q, k, v, a, m.s, mask, a.head_dim)
    return linear(m, out, a.out)


def at_index(t: Tape, x: Tensor, n: Any, what: str) -> Tensor:
    """x[..., [i], :]: a copy, which saves the index; its backward pass puts the gradient into zeros."""
    index = t.alloc(1, I64, "index")
    return t.emit(what, n, x.w, (x,), _at_index_bwd, index.st, x.n)


@moves.moving(moves.gathered, gradients.put_back)
def _at_index_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(node.extra, g.w, "gradient of the picked"),)


def mpt(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """MptAttention: an fp32 alibi makes the scores fp32; the masked scores live until it returns."""
    t = m.t
    fused = linear(m, x, a.projections[0])
    n = m.rows * a.heads * a.head_dim
    q, k, v = ops.split(t, fused, (n, n, n), True)
    moves.by_heads(q, k, v)
    del fused
    k, v = cached(m, a, k, v)
    split = m.b > 1
    view = split and m.cache is None
    scores = bmm(t, q, k, m.b * a.heads * m.s * m.kv, a.head_dim, (split, view), "attention scores", True)
    alibi = Tensor(a.heads * m.kv, F32, None)  # of the model
    scores = ops.add(t, ops.scale(t, scores, "scaled scores"), alibi, "biased scores")
    mask = at["masks"](m, a)
    if mask is not None:
        scores = masked(t, scores, mask)
    probs = ops.to(t, ops.softmax(t, scores, F32), v.w)
    m.hold(probs)
    out = bmm(t, probs, v, m.rows * a.heads * a.head_dim, m.kv, (False, view), "attention output")
    out = linear(m, ops.copy(t, out, "attention output, transposed"), a.out)
    del scores
    return out


def bloom(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """BloomAttention: baddbmm onto the alibi, softmax in fp32."""
    t = m.t
    fused = linear(m, x, a.projections[0])
    n = m.rows * a.heads * a.head_dim
    q, k, v = (ops.piece(t, fused, n) for _ in range(3))
    moves.by_heads(q, k, v)
    del fused
    k, v = cached(m, a, k, v)
    if m.b > 1:
        q = ops.copy(t, q)
        if m.cache is None:
            k, v = ops.copy(t, k), ops.copy(t, v)
    scores = ops.matmul(
        t, t.autocast(q), t.autocast(k), m.b * a.heads * m.s * m.kv, a.head_dim, "attention scores", True, True
    )
    mask = at["masks"](m, a)
    weights = scores if mask is None else ops.add(t, scores, mask, "masked scores")
    probs = ops.to(t, ops.softmax(t, weights, F32), q.w)
    m.hold(probs)
    out = ops.matmul(t, t.autocast(probs), t.autocast(v), n, m.kv, "attention output")
    return linear(m, ops.copy(t, out, "attention output, transposed"), a.out)


def gptj(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """GPTJAttention: interleaved rotary embedding, scores in fp32. CodeGen's comes out of one projection, whose parts
    are copied to be heads, and turns in fp32."""
    t = m.t
    if len(a.projections) == 1:
        fused = linear(m, x, a.projections[0])
        n = m.rows * a.heads * a.head_dim
        q, k, v = (ops.copy(t, ops.piece(t, fused, n)) for _ in range(3))
        cos, sin = (t.alloc(m.s * a.rope_dim, F32, f"{what}, each twice") for what in ("cosines", "sines"))
        turned = _turned(t, k, cos, sin, a), _turned(t, q, cos, sin, a)
        moves.by_heads(*turned, v)
        held, v = cached(m, a, ops.to(t, turned[0], x.w) if m.cache is not None else turned[0], v)
        return linear(m, wide_scores(m, turned[1], held, v, a, at["masks"](m, a), False), a.out)
    q, k, v = (linear(m, x, p) for p in a.projections)
    cos, sin = at["rope"](m, a)
    if a.position == "rope":
        _log_tables(m, a, x.w)
        k, q = _turned(t, k, cos, sin, a), _turned(t, q, cos, sin, a)
    moves.by_heads(q, k, v)
    k, v = cached(m, a, k, v)
    return linear(m, wide_scores(m, q, k, v, a, at["masks"](m, a), False), a.out)


def _log_tables(m: Machine, a: Attention, w: int) -> None:
    """Sines and cosines: the layer's table is copied, its rows are picked by position in fp32 and converted, and each
    number is written twice, for keys and for queries."""
    t, n = m.t, m.s * a.rope_dim
    moves.log(t, "table, copied", moved=2 * a.table * a.rope_dim * F32)
    moves.log(t, "positions, repeated", strided=n)
    moves.log(t, "rows of the table", strided=n)
    if w != F32:
        moves.log(t, "rows of the table, converted", moved=n * (F32 + w))
    moves.log(t, "sines and cosines, each twice", 4, strided=4 * n)


def _turned(t: Tape, x: Tensor, cos: Tensor, sin: Tensor, a: Attention) -> Tensor:
    """The first rotary dimensions turned in pairs, the rest passed, concatenated."""
    if a.rope_dim == a.head_dim:
        return rotate(t, x, cos, sin)
    rot = ops.piece(t, x, x.n // a.head_dim * a.rope_dim)
    rest = ops.piece(t, x, x.n // a.head_dim * (a.head_dim - a.rope_dim))
    return ops.cat(t, (rotate(t, rot, cos, sin), rest), "rotated and passed")


def gpt_neo(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """GPTNeoSelfAttention: scores in fp32, a causal buffer a layer."""
    q, k, v = (linear(m, x, p) for p in a.projections)
    moves.by_heads(q, k, v)
    k, v = cached(m, a, k, v)
    return linear(m, wide_scores(m, q, k, v, a, at["masks"](m, a), True), a.out)


def wide_scores(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, mask: Tensor | None, buffer: bool) -> Tensor:
    """_attn of GPT-J and GPT-Neo: queries and keys in fp32."""
    t = m.t
    split = m.b > 1
    first = m.cache is None
    q, k = ops.to(t, q, F32), ops.to(t, k, F32)
    weights = bmm(t, q, k, m.b * a.heads * m.s * m.kv, a.head_dim, (split, split and first), "attention scores", True)
    if buffer:
        weights = t.emit("masked scores", weights.n, weights.w, (weights,), ops.where_bwd)
    else:
        weights = ops.scale(t, weights, "scaled scores")
    if mask is not None:
        weights = ops.add(t, weights, mask, "masked scores")
    weights = ops.softmax(t, weights, F32 if t.amp else weights.w)
    weights = ops.to(t, weights, v.w)
    m.hold(weights)
    out = bmm(t, weights, v, m.b * a.heads * m.s * a.head_dim, m.kv, (False, split and first), "attention output")
    return ops.copy(t, out, "attention output, transposed")


def gpt_oss(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """GptOssAttention: rotary halves from one table, a sink a head beside the scores."""
    t = m.t
    q, k, v = (linear(m, x, p) for p in a.projections)
    moves.by_heads(q, k, v)
    cos, sin = at["rope"](m, a, 1 if a.rotary == "joined" else 2)
    if a.rotary == "joined":  # MiMo-V2-Flash turns a part of each head
        q, k = (rotate_part(t, i, cos, sin, a.rope_dim, a.head_dim) for i in (q, k))
    else:
        q, k = _halves(t, q, cos, sin), _halves(t, k, cos, sin)
    k, v = cached(m, a, k, v)
    s_k = k.n // (m.b * a.kv_heads * a.head_dim)
    out, kept = with_sinks(m, q, k, v, a, at, s_k)
    out = linear(m, out, a.out)
    del kept
    return out


def with_sinks(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, at: Any, s_k: Any) -> tuple[Tensor, Tensor]:
    """eager_attention_forward of modeling_gpt_oss.py: the output, and the probabilities that it returns too."""
    t = m.t
    groups, split = a.heads // a.kv_heads, m.b > 1
    rows = m.b * a.heads * m.s
    k, v = ops.repeat(t, k, groups), ops.repeat(t, v, groups)
    weights = bmm(t, q, k, rows * s_k, a.head_dim, (False, split and groups == 1), "attention scores", True)
    weights = ops.scale(t, weights, "scaled scores")
    mask = at["masks"](m, a)
    if mask is not None:
        weights = ops.add(t, weights, mask, "masked scores")
    sinks = m.extra(a.extras[0])
    logits = t.emit(
        "scores and sinks",
        rows * (s_k + 1),
        max(weights.w, sinks.w),
        (weights, sinks),
        _sink_bwd,
        None,
        (weights.n, sinks.n),
    )
    best, where = t.alloc(rows, logits.w, "row maxima"), t.alloc(rows, I64, "row maxima")
    moves.log(t, "row maxima", moved=logits.n * logits.w + rows * (logits.w + I64))
    logits = t.emit("shifted scores", logits.n, logits.w, (logits,), _max_bwd, where.st, rows)
    del best, where
    probs = ops.softmax(t, logits, F32 if t.amp else None)
    weights = ops.to(t, ops.piece(t, probs, rows * s_k), v.w)
    m.hold(weights)
    d_v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    out = bmm(t, weights, v, rows * d_v, s_k, (False, split and groups == 1), "attention output")
    return ops.copy(t, out, "attention output, transposed"), weights


def _joined_by_sinks(t: Tape, node: GradFn, g: Tensor, outs: Any) -> None:
    """Of scores beside sinks: a view of the scores' part; the sinks' is summed over rows."""
    out, sinks = outs
    if sinks is not None:
        moves.log(t, "gradient of the sinks", strided=g.n - node.extra[0])
    if out is not None:
        out.lay = moves.PART


@moves.moving(moves.joined, _joined_by_sinks)
def _sink_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    n, sinks = node.extra
    return (Tensor(n, g.w, g.st), None if node.ins[1] is None else t.alloc(sinks, g.w, "gradient of the sinks"))


def _less_maximum(t: Tape, node: GradFn, g: Tensor, outs: Any) -> None:
    """Of x - x.max(): negated, summed, put into zeros, added."""
    moves.log(t, "gradient of the maximum", 5, (7 * g.n + node.extra) * g.w, g.n)


@moves.moving(moves.gathered, _less_maximum)
def _max_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """x - x.max(): the gradient passes, and a scattered one is added to it."""
    negative = t.alloc(g.n, g.w, "gradient, negated")
    scattered = t.alloc(g.n, g.w, "gradient of the maximum")
    del negative
    out = t.alloc(g.n, g.w, "gradients, added")
    del scattered
    return (out,)


def _halves(t: Tape, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """_apply_rotary_emb: first * cos - second * sin, second * cos + first * sin."""
    first, second = ops.split(t, x, (x.n // 2, x.n // 2))
    one = ops.sub(t, ops.mul(t, first, cos), ops.mul(t, second, sin), "rotated half")
    two = ops.add(t, ops.mul(t, second, cos), ops.mul(t, first, sin), "rotated half")
    return ops.cat(t, (one, two), "rotated")


def of_positions(m: Machine, q: Tensor, k: Tensor, a: Attention) -> Tensor | None:
    """DeBERTa's disentangled_attention_bias: queries and keys against the projected table, picked by distance."""
    further, t = a.disentangled, m.t
    if further is None:
        return None
    own = {"c2p": a.projections[1], "p2c": a.projections[0]}  # keys' matrix for the queries, and the other way round
    table = m.param("rel_embeddings", further.rows * a.projections[0].d_in)
    scores: Tensor | None = None
    for i, term in enumerate(further.terms):
        made = linear(m, table, further.linears[i] if further.linears else own[term], further.rows)
        made = ops.repeat(t, made, m.b, "positions of every sequence")
        n = m.b * a.heads * m.s
        raw = ops.matmul(t, q if term == "c2p" else k, made, n * further.rows, a.head_dim, term)
        index = t.alloc(m.s * m.s, I64, "distances")
        picked = ops.scale(t, t.emit("scores by distance", n * m.s, raw.w, (raw,), _picked_bwd, index.st, raw.n))
        scores = picked if scores is None else ops.add(t, scores, picked, "scores of positions")
    return scores


def _picked_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """gather_backward scatters into zeros."""
    return (t.alloc(node.extra, g.w, "gradient, scattered"),)


# what computes these values of Attention.form
SPECIAL = {
    "broadcast": falcon,
    "alibi": bloom,
    "alibi_fp32": mpt,
    "fp32_scores": gptj,
    "fp32_scores_masked": gpt_neo,
    "sinks": gpt_oss,
}


def bloom_gelu(t: Tape, x: Tensor) -> Tensor:
    """GeLUFunction: one node that saves its input; both formulas hold four full-size temporaries."""
    held = [t.alloc(x.n, x.w, "gelu temporary") for _ in range(3)]
    out = t.emit("gelu", x.n, x.w, (x,), _bloom_gelu_bwd, x.st)
    del held
    return out


@moves.several(9, 21, 18, 44)
def _bloom_gelu_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    held = [t.alloc(g.n, g.w, "gelu temporary") for _ in range(4)]
    out = t.alloc(g.n, g.w, "gradient")
    del held
    return (out,)


__all__ = ["SPECIAL", "bloom_gelu", "of_positions"]
