"""Multi-head latent attention as DeepSeek-V2 and V3 run it: keys and values expanded from the cached latent.

Source: transformers 5, models/deepseek_v2/modeling_deepseek_v2.py and models/deepseek_v3/modeling_deepseek_v3.py.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Attention, Indexer
from estimator.ops import ceil_div
from estimator.stack import across, gradients, moves, ops
from estimator.stack.attention import MAX_FLASH_WIDTH, bmm, cached, efficient, flash, rotate
from estimator.stack.machine import Machine
from estimator.stack.nn import linear, product
from estimator.stack.norms import norm
from estimator.stack.products import ATTENTION, log
from estimator.stack.tape import BOOL, F32, HALF, GradFn, Tape, Tensor
from estimator.work.product import PROJECTION


def latent(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """DeepseekV2Attention.forward and DeepseekV3Attention.forward. x [b, s, d] -> [b, s, d]."""
    t = m.t
    sizes = a.mla
    assert sizes is not None
    *queries, down, up = a.projections
    q = linear(m, x, queries[0])
    resid = q
    if len(queries) == 2:
        resid = norm(m, q, a.norms[0])
        q = linear(m, resid, queries[1])
    q = ops.by_heads(t, q)
    q_nope, q_rope = ops.split(t, q, (m.rows * a.heads * sizes["nope"], m.rows * a.heads * sizes["rope"]))
    low = linear(m, x, down)
    parts = m.rows * sizes["kv_rank"], m.rows * sizes["rope"]
    if down.across:  # each GPU's heads give part of the rotary key's gradient
        narrow, k_rope = ops.split(t, low, parts)
        low = ops.cat(t, (narrow, across.entered(t, k_rope)), "latent, put together")
    narrow, k_rope = ops.split(t, low, parts)
    narrow = norm(m, narrow, a.norms[-1])
    if a.query_scale == "parts":
        q_nope, q_rope, narrow = (ops.scale(t, each) for each in (q_nope, q_rope, narrow))
    if a.position == "rope":
        moves.fused(t, "rotary embedding", 2 * (q_rope.n + k_rope.n) * q_rope.w)
        q_rope, k_rope = turned(m, q_rope, k_rope, a, at["rope"](m, a))
    narrow, k_rope = cached(m, a, narrow, k_rope)
    query = joined(t, q_nope, q_rope)
    keys, values = expanded(m, a, narrow, k_rope, up)
    if a.indexer is not None:
        index(m, x, resid, a.indexer)
    del resid
    out = attend(m, query, keys, values, a, at["masks"](m, a))
    return linear(m, out, a.out)


def turned(m: Machine, q: Tensor, k: Tensor, a: Attention, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The rotary parts of queries and keys, as the class's style turns them."""
    t, (cos, sin) = m.t, tables
    if a.rope_style == "complex":
        return complex_pair(t, q, k, cos, m.fused)
    if a.rope_style == "interleaved":
        return interleaved(t, q, cos, sin), interleaved(t, k, cos, sin)
    return rotate(t, q, cos, sin), rotate(t, k, cos, sin)


def index(m: Machine, x: Tensor, resid: Tensor, i: Indexer) -> None:
    """DeepseekV32Indexer.forward: scores of every head over every token in fp32, their sum, and a mask of the best."""
    t = m.t
    q, k = linear(m, resid, i.queries), norm(m, linear(m, x, i.keys), i.norm, m.rows)
    if i.query_norm is not None:
        q = norm(m, q, i.query_norm, m.rows * i.heads)
    if m.cache is not None:
        where, t.where = t.where, "KV cache"
        held = m.cache.setdefault((m.layer_key, "indexer"), [None, None, t.times, m.kv, None])
        held[0], held[1] = t.alloc(m.b * m.kv * i.cached, k.w, "keys of the indexer"), t.alloc(0, k.w, "no values")
        t.where = where
    keys = ceil_div(m.kv, i.pool)
    if i.pooling:
        places, gates = i.pooling
        made = product(t, x, m.extra(gates), None, m.rows * i.head_dim, "gates", False, gates.name, PROJECTION, m.rows)
        wide = ops.add(t, ops.to(t, made, F32), ops.piece(t, m.extra(places, F32), i.head_dim), "gates of the pools")
        k = Tensor(m.b * keys * i.head_dim, k.w, ops.softmax(t, wide).st)
        del made, wide
    pairs, at, never = m.b * m.s * keys, i.queries.name.rpartition(".")[0], (False, False)
    scores = t.alloc(pairs * i.heads, F32, "scores of the indexer")
    log(t, scores, f"{at}.scores", ATTENTION, m.s, i.head_dim, keys, m.b * i.heads, operator="bmm", grads=never)
    if i.weigh is None:  # the greatest of a block's scores: a copy of all, masked, and a mask of every head
        later = t.alloc(pairs * i.heads, F32, "scores of the indexer, masked")
        del scores, later
        return
    weights = linear(m, x, i.weigh)
    summed = t.alloc(pairs, F32, "index scores")
    log(t, summed, f"{at}.weighted", ATTENTION, 1, i.heads, keys, m.rows, operator="bmm", grads=never)
    del q, k, weights, scores
    mask = t.alloc(m.b * m.s * m.kv, BOOL, "tokens that were not chosen")
    del mask, summed


def joined(t: Tape, nope: Tensor, rope: Tensor) -> Tensor:
    """cat of the two parts of the queries; autocast widens the narrower one first."""
    w = max(nope.w, rope.w)
    return ops.cat(t, (ops.to(t, nope, w), ops.to(t, rope, w)), "queries")


def expanded(m: Machine, a: Attention, narrow: Tensor, k_rope: Tensor, up: Any) -> tuple[Tensor, Tensor]:
    """expand_kv: keys of every head are written, part by part, into a new tensor; values are a view."""
    t = m.t
    assert a.mla is not None
    rows = m.b * m.kv
    both = ops.by_heads(t, linear(m, narrow, up, rows))
    k_nope, values = ops.split(t, both, (rows * a.heads * a.mla["nope"], rows * a.heads * a.mla["v"]))
    n = rows * a.heads * a.head_dim
    extra = (k_nope.n, n - k_nope.n, k_rope.n, k_rope.w)
    keys = t.emit("keys", n, both.w, (k_nope, k_rope), _written_bwd, None, extra)
    return keys, values


@moves.moving(moves.written, gradients.written)
def _written_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """CopySlices twice (torch/csrc/autograd/functions/tensor.cpp): each copies the whole gradient and its own part."""
    n_nope, n_rope, n_k, w_k = node.extra
    whole = t.alloc(g.n, g.w, "gradient of the keys, copied")
    part = t.alloc(n_rope, g.w, "gradient of the rotary keys")
    zeros = t.alloc(n_rope, g.w, "zeros")
    del zeros
    again = t.alloc(g.n, g.w, "gradient of the keys, copied")
    nope = t.alloc(n_nope, g.w, "gradient of the keys") if node.ins[0] is not None else None
    del whole, again
    rope = None
    if node.ins[1] is not None:
        if w_k != g.w:
            part = t.alloc(n_rope, w_k, "gradient, converted")
        rope = t.alloc(n_k, w_k, "gradient of the shared key") if n_k != n_rope else part
    return nope, rope


def complex_pair(t: Tape, q: Tensor, k: Tensor, table: Tensor, fused: bool) -> tuple[Tensor, Tensor]:
    """apply_rotary_emb: one complex product in fp32 for each of queries and keys."""
    wide_q, wide_k = ops.to(t, q, F32), ops.to(t, k, F32)
    out_q = ops.to(t, _turned(t, wide_q, table, fused), q.w)
    out_k = ops.to(t, _turned(t, wide_k, table, False), k.w)
    return out_q, out_k


def _turned(t: Tape, x: Tensor, table: Tensor, permuted: bool) -> Tensor:
    """The product with the complex table, seen as real numbers; ``permuted``: its gradient is copied to be so seen."""
    out = t.emit("rotated", x.n, F32, (x,), _complex_bwd, None, 2 * table.n)
    return ops.by_heads(t, out, _paired_bwd) if permuted else out


@moves.moving(backward=gradients.in_heads)
def _paired_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(g.n, g.w, "gradient"),)


@moves.moving(moves.complex_product, gradients.complex_product)
def _complex_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    conj = t.alloc(node.extra, HALF, "conjugate of the table")
    out = t.alloc(g.n, g.w, "gradient of a product")
    del conj
    return (out,)


def interleaved(t: Tape, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """apply_rotary_pos_emb_interleave: even and odd dimensions turned against each other."""
    even, odd = ops.piece(t, x, x.n // 2), ops.piece(t, x, x.n // 2)
    cos, sin = ops.piece(t, cos, cos.n // 2), ops.piece(t, sin, sin.n // 2)
    first = ops.sub(t, ops.mul(t, even, cos), ops.mul(t, odd, sin), "rotated half")
    return ops.cat(t, (first, ops.add(t, ops.mul(t, odd, cos), ops.mul(t, even, sin), "rotated half")), "rotated")


def attend(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, mask: Tensor | None) -> Tensor:
    """SDPA: the memory-efficient kernel, as value heads are narrower than query heads; or the eager function."""
    assert a.mla is not None
    if not m.fused:
        return eager(m, q, k, v, a, mask)
    half = q.w == HALF or m.t.amp
    if mask is None and half and a.mla["v"] == a.head_dim and a.head_dim <= MAX_FLASH_WIDTH:
        out = flash(m, q, k, v, a, m.s, m.kv)
        return ops.copy(m.t, out, "attention output, transposed") if m.s != 1 else out
    return efficient(m, q, k, v, a, m.s, mask, a.mla["v"])


def eager(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, mask: Tensor | None) -> Tensor:
    """eager_attention_forward; queries and keys lie head by head, values are a permuted view."""
    t = m.t
    assert a.mla is not None
    rows = m.b * a.heads * m.s
    weights = bmm(t, q, k, rows * m.kv, a.head_dim, (False, False), "attention scores", True)
    weights = ops.scale(t, weights, "scaled scores")
    if mask is not None:
        weights = ops.add_spread(t, weights, "masked scores", max(weights.w, mask.w))
    weights = ops.to(t, ops.softmax(t, weights, F32), q.w)
    m.hold(weights)
    out = bmm(t, weights, v, rows * a.mla["v"], m.kv, (False, m.b > 1), "attention output")
    return ops.copy(t, out, "attention output, transposed")
