"""DeepSeek-V4's attention: one key that is the value too, a window of them, and older tokens pooled into more.

Source: transformers 5.24, models/deepseek_v4/modeling_deepseek_v4.py.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Attention, Pooling
from estimator.families.common_parts import PoolIndex
from estimator.formulas.kvcache import pooled_numbers
from estimator.stack import ops
from estimator.stack.attention import cached, rotate_half
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.norms import norm
from estimator.stack.products import ATTENTION, log
from estimator.stack.shapes import total
from estimator.stack.special import with_sinks
from estimator.stack.tape import BOOL, F32, I64, Tape, Tensor


def attention(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """DeepseekV4Attention.forward. x [b, s, d] -> [b, s, d]."""
    t = m.t
    q_a, q_b, down, o_a = a.projections
    cos, sin = at["rope"](m, a)
    resid = norm(m, linear(m, x, q_a), a.norms[0])
    q = head_normed(t, linear(m, resid, q_b), m.rows * a.heads)
    q = turned(t, q, cos, sin, a)
    kv = turned(t, norm(m, linear(m, x, down), a.norms[1]), cos, sin, a)
    kv, _ = cached(m, a, kv, t.alloc(0, kv.w, "no values") if a.joint else kv)
    mask = at["masks"](m, a)
    if a.pool is not None:
        more = pooled(m, x, a.pool, a, (cos, sin))
        if a.pool.chooser is not None:
            index(m, x, resid, a.pool.chooser, a, (cos, sin))
        if more is not None:
            kv = ops.cat(t, (kv, more), "keys")
            entries = more.n // (m.b * a.pool.width)
            bias = t.alloc(m.rows * entries, kv.w, "mask of the pooled keys")
            mask = bias if mask is None else t.alloc(m.b * mask.n + bias.n, mask.w, "mask of all keys")
            del bias
    s_k = kv.n // (m.b * a.head_dim)
    out, kept = with_sinks(m, q, kv, kv, a, {"masks": lambda machine, block: mask}, s_k)
    out = turned(t, out, cos, sin, a)
    out = linear(m, linear(m, ops.copy(t, out, "output by groups"), o_a), a.out)
    del kept, resid
    return out


def head_normed(t: Tape, q: Tensor, rows: Any) -> Tensor:
    """DeepseekV4UnweightedRMSNorm over every head."""
    variance = ops.mean(t, ops.power(t, ops.to(t, q, F32)), rows)
    return ops.mul(t, q, ops.to(t, ops.unary(t, ops.shift(t, variance), "rsqrt", "result", 2), q.w), "normalised")


def turned(t: Tape, x: Tensor, cos: Tensor, sin: Tensor, a: Attention, whole: Any = None) -> Tensor:
    """apply_rotary_pos_emb: the last dimensions of every head turned in fp32, and joined to the rest again."""
    whole = a.head_dim if whole is None else whole
    part = x.n // whole * a.rope_dim
    rest, rope = ops.piece(t, x, x.n - part), ops.piece(t, x, part)
    first = ops.mul(t, ops.to(t, rope, F32), cos)
    second = ops.mul(t, ops.to(t, rotate_half(t, rope), F32), sin)
    return ops.cat(t, (rest, ops.to(t, ops.add(t, first, second, "rotated"), x.w)), "rotated and passed")


def pooled(m: Machine, x: Tensor, p: Pooling, a: Attention, tables: tuple[Tensor, Tensor]) -> Tensor | None:
    """The pooled keys that a query of this pass may meet, [b, tokens // ratio, width]; None where there are none."""
    t = m.t
    values, gates = (linear(m, x, lin) for lin in p.linears)
    all_, new = m.kv // p.ratio, m.kv // p.ratio - m.past // p.ratio
    made: Tensor | None = None
    if new:
        n, sides = m.b * new * p.ratio * p.width, 2 if p.overlap else 1
        gates = ops.add(t, ops.piece(t, gates, n * sides), m.extra(p.bias, F32), "gates")
        values = ops.piece(t, values, n * sides)
        if p.overlap:  # written into zeros, beside the window before
            values, gates = ops.copy(t, values, "windows"), ops.copy(t, gates, "gates of the windows")
        weights = ops.to(t, ops.softmax(t, gates, F32), values.w)
        summed = total(t, ops.mul(t, values, weights, "weighed"), m.b * new * p.width)
        cos, sin = (ops.piece(t, y, new * a.rope_dim) for y in tables)
        made = turned(t, norm(m, summed, p.norm, m.b * new), cos, sin, a, p.width)
    del values, gates
    if m.cache is not None:
        where, t.where = t.where, "KV cache"
        held = m.cache.setdefault((m.layer_key, p.norm.name), [None, t.alloc(0, x.w, "no values"), t.times, m.kv, None])
        held[0] = t.alloc(m.b * pooled_numbers(m.kv, p.ratio, p.width, int(p.overlap)), x.w, "pooled keys")
        t.where = where
        made = Tensor(m.b * all_ * p.width, x.w, held[0].st) if all_ else None
    return made


def index(
    m: Machine, x: Tensor, resid: Tensor, i: PoolIndex, a: Attention, tables: tuple[Tensor, Tensor]
) -> None:  # fmt: skip
    """DeepseekV4Indexer.forward: every head's score of every pooled key in fp32, weighed and summed; no gradient."""
    t = m.t
    keys = pooled(m, x, i.pool, a, tables)
    q = turned(t, linear(m, resid, i.queries), *tables, a, i.pool.width)
    weights = linear(m, x, i.weigh)
    if keys is None:
        return
    entries, never = m.kv // i.pool.ratio, (False, False)
    wide = ops.to(t, q, F32), ops.to(t, keys, F32)
    scores = t.alloc(m.rows * i.heads * entries, F32, "scores of the indexer")
    at = i.queries.name.rpartition(".")[0]
    log(t, scores, f"{at}.scores", ATTENTION, m.s * i.heads, i.pool.width, entries, m.b, operator="bmm", grads=never)
    del wide, q, keys, weights
    positive = t.alloc(scores.n, F32, "positive scores")
    del scores
    summed = t.alloc(m.rows * entries, F32, "index scores")
    del positive
    chosen = t.alloc(m.rows * entries, I64, "chosen keys")
    mask = t.alloc(m.rows * entries, BOOL, "keys that were not chosen")
    del chosen, mask, summed


__all__ = ["attention"]
