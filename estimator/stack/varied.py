"""Attentions that vary transformers' own: DiffLlama's pairs of heads, Doge's learned mask, JetMoE's experts, WavLM's
gated bias.

Source: transformers 5.24, models/{diffllama,doge,jetmoe,wavlm}/modeling_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Attention
from estimator.stack import ops
from estimator.stack.attention import attend, cached, head_norm, repeat_kv, rotate
from estimator.stack.machine import Machine
from estimator.stack.moe import gather, grouped, log_experts
from estimator.stack.nn import linear
from estimator.stack.norms import norm
from estimator.stack.pooled import attention as pooled
from estimator.stack.routers import best
from estimator.stack.shapes import outer, total
from estimator.stack.tape import F32, I64, Tensor


def differential(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """DiffLlamaAttention: all heads twice, over either half of the values' heads; then the pairs' difference."""
    t = m.t
    q, k, v = (linear(m, x, p) for p in a.projections)
    cos, sin = at["rope"](m, a)
    q, k = rotate(t, q, cos, sin), rotate(t, k, cos, sin)
    k, v = cached(m, a, k, v)
    mask = at["masks"](m, a)
    outs = []
    for half in ops.split(t, v, (v.n // 2, v.n // 2)):
        outs.append(attend(m, q, k, ops.repeat(t, half, 2, "values of half the heads"), a, mask))
    out = ops.cat(t, outs, "heads of both")
    del outs, half
    first, second = ops.split(t, out, (out.n // 2, out.n // 2))
    q1, k1, q2, k2 = (m.extra(e) for e in a.extras)
    one, two = (ops.unary(t, ops.to(t, ops.mul(t, i, j), F32), "exp", "result") for i, j in ((q1, k1), (q2, k2)))
    full = ops.piece(t, ops.to(t, ops.sub(t, one, two, "lambda"), q.w), 1)
    out = ops.sub(t, first, ops.mul(t, full, second, "second heads"), "differential heads")
    assert a.out_norm is not None
    return linear(m, ops.scale(t, norm(m, out, a.out_norm, out.n // a.out_norm.width)), a.out)


def dynamic_mask(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """DogeAttention: the values say how much each token weighs, in a mask that trains."""
    t = m.t
    *three, step = a.projections
    q, k, v = (linear(m, x, p) for p in three)
    q, k = head_norm(m, q, a.norms[0]), head_norm(m, k, a.norms[1])
    cos, sin = at["rope"](m, a)
    q, k = rotate(t, q, cos, sin), rotate(t, k, cos, sin)
    k, v = cached(m, a, k, v)
    tokens = v.n // (m.b * a.kv_heads * a.head_dim)
    dt = ops.unary(t, linear(m, v, step, m.b * tokens), "softplus", "input")
    dt = ops.unary(t, ops.mul(t, m.extra(a.extras[0]), dt), "exp", "result")
    learned = ops.expand(t, dt, m.s)  # a row a query
    mask = at["masks"](m, a)
    if mask is not None:
        learned = t.emit("learned mask", learned.n, learned.w, (learned,), ops.where_bwd, mask.st)
    learned = ops.repeat(t, learned, a.heads // a.kv_heads, "mask of every head")
    if m.fused:
        out = attend(m, q, k, v, a, learned, True)
    else:
        out = attend(m, q, k, v, a, None, True, learned)
    return linear(m, out, a.out)


def routed(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """JetMoeAttention: a query of each chosen expert, over the same keys and values, and that expert's output."""
    t, block = m.t, a.routed
    assert block is not None
    up, down = block.experts
    rows = m.rows * block.per_token
    logits = ops.to(t, linear(m, x, block.router[0]), F32)
    weights, _ = best(m, logits, block)
    weights = ops.to(t, ops.softmax(t, weights), x.w)
    order = t.alloc(rows, I64, "tokens by expert")
    chosen = gather(t, x, rows * block.d, order)
    q = grouped(m, chosen, m.extra(up), rows * block.width, None)
    log_experts(t, q, up, rows, block.width, block)
    q = gather(t, q, q.n, order)
    both = linear(m, x, a.projections[0])
    k, v = ops.split(t, both, (both.n // 2, both.n // 2))
    cos, sin = at["rope"](m, a)
    q, k = rotate(t, q, cos, sin), rotate(t, k, cos, sin)
    k, v = cached(m, a, k, v)
    every = a._replace(kv_heads=a.heads)
    out = attend(m, q, repeat_kv(t, k, a), repeat_kv(t, v, a), every, at["masks"](m, a))
    out = grouped(m, gather(t, out, out.n, order), m.extra(down), rows * block.d, None)
    log_experts(t, out, down, rows, block.d, block)
    out = ops.mul(t, out, weights, "weighted")
    out = t.emit("experts' sum", m.rows * block.d, out.w, (out,), ops.fresh_bwd)
    return ops.add(t, out, m.extra(block.router[1]), "output with bias")


def gated_positions(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """WavLMAttention: torch's multi_head_attention_forward, the bias of positions added to the scores as a mask."""
    t = m.t
    *three, gate = a.projections
    if len(a.extras) > 1:  # the first layer's table; the loop over the layers keeps the bias
        found = ops.embedding(t, m.extra(a.extras[1]), m.s * m.s * a.heads)
        at["positions"] = ops.repeat(t, ops.copy(t, found), m.b, "bias of positions")
    gates = linear(m, x, gate, m.rows * a.heads)
    gates = ops.sigmoid(t, total(t, gates, m.rows * a.heads * 2))
    one, two = ops.split(t, gates, (m.rows * a.heads, m.rows * a.heads))
    opened = ops.mul(t, one, ops.shift(t, ops.mul(t, two, m.extra(a.extras[0]))), "gate")
    bias = outer(t, ops.shift(t, opened), at["positions"], at["positions"].n, "gated bias")
    q, k, v = (linear(m, x, p) for p in three)
    n = m.b * a.heads * m.s * m.s
    scores = ops.add(t, ops.matmul(t, ops.scale(t, q), k, n, a.head_dim, "attention scores"), bias, "biased scores")
    weights = ops.softmax(t, scores, F32 if t.amp else scores.w)
    del scores
    if m.drops.attention:
        weights = ops.dropout(t, weights)
    out = ops.copy(t, ops.matmul(t, weights, v, q.n, m.s, "attention output"), "attention output, transposed")
    averaged = ops.mean(t, weights, m.b * m.s * m.s)
    out = linear(m, out, a.out)
    del averaged
    return out


VARIED = {
    "differential": differential, "dynamic_mask": dynamic_mask, "gated_positions": gated_positions, "pooled": pooled,
    "routed": routed,
}  # fmt: skip
