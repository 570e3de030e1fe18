"""Kimi's delta rule without its fused kernel: as the gated delta rule in chunks of fp32, but every channel of a key
decays by itself, so that the products within a chunk are written out over pairs of tokens and channels.

Source: transformers 5.24, models/kimi_linear/modeling_kimi_linear.py (chunk_kimi_delta_attention).
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Extra, StateSpace
from estimator.ops import ceil_div
from estimator.stack import ops
from estimator.stack.delta import gated_norm, loop, next_token, outer_difference, unit, wide
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.recurrent import convolve, hold, many, minus_exp
from estimator.stack.shapes import cumsum, masked, outer, padded, total
from estimator.stack.tape import BOOL, F32, GradFn, Tape, Tensor


def channel_delta(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """KimiLinearDeltaAttention.forward. x [b, s, d] -> [b, s, d]."""
    t = m.t
    bias, a_log, *weights = s.extras
    *parts, f_a, f_b, b, g_a, g_b, out_proj = s.linears
    n = m.rows * s.inner
    mixed = convolve(m, ops.cat(t, [linear(m, x, lin) for lin in parts], "q, k and v"), s, tuple(weights))
    q, k, v = ops.split(t, mixed, (n, n, n))
    decay = log_decay(m, linear(m, linear(m, x, f_a), f_b), bias, a_log, s)
    beta = ops.sigmoid(t, linear(m, x, b))
    if m.cache is not None and m.past != 0:
        out = next_token(m, s, v)
    else:
        out = rule(m, s, q, k, v, beta, decay)
        hold(m, 1, m.b * s.inner * s.state, F32, "recurrent state")
    gate = linear(m, linear(m, x, g_a), g_b)
    return linear(m, gated_norm(m, out, gate, s), out_proj)


def log_decay(m: Machine, x: Tensor, bias: Extra, a_log: Extra, s: StateSpace) -> Tensor:
    """KimiLinearForgetGate: -exp(A) * softplus(step); bounded: a lower bound times sigmoid(exp(A) * step)."""
    t, n = m.t, x.n
    step = ops.add(t, ops.to(t, x, F32), m.extra(bias), "time step")
    rate = minus_exp(m, a_log)
    if s.sizes.get("bounded"):
        return ops.scale(t, ops.sigmoid(t, outer(t, rate, step, n, "decay")), "log decay")
    soft = ops.unary(t, ops.shift(t, ops.unary(t, step, "exp", "result")), "log", "input")
    soft = t.emit("softplus", n, F32, (step, soft), _either_bwd, t.alloc(n, BOOL, "large steps").st)
    return outer(t, rate, soft, n, "log decay")


def _either_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(None if p is None else t.alloc(g.n, g.w, "gradient, masked") for p in node.ins)


def rule(m: Machine, s: StateSpace, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """chunk_kimi_delta_attention."""
    t = m.t
    w, heads, size = q.w, s.sizes["heads"], s.sizes["chunk"]
    chunks = ceil_div(m.s, size)
    rows = m.b * heads * chunks * size
    scalars, n = m.rows * heads, rows * s.state
    q, k, v, beta, decay = (ops.by_heads(t, wide(t, i)) for i in (q, k, v, beta, decay))
    q, k = unit(t, q, scalars), unit(t, k, scalars)
    q = ops.scale(t, padded(t, q, n))
    k, v, decay, beta = padded(t, k, n), padded(t, v, n), padded(t, decay, n), padded(t, beta, rows)
    v_beta, k_beta = outer(t, v, beta, n, "beta * v"), outer(t, k, beta, n, "beta * k")
    decay = cumsum(t, decay)
    pairs = outer_difference(t, decay, n * size)
    pairs = masked(t, pairs, t.alloc(size * size, BOOL, "upper triangle"))
    pairs = ops.unary(t, pairs, "decay of every pair and channel", "result")
    system = within(t, k_beta, k, pairs, rows * size)
    system = inverse(t, masked(t, ops.neg(t, system), t.alloc(size * size, BOOL, "upper triangle")), rows, size)
    grown = outer(t, k_beta, ops.unary(t, decay, "decay", "result"), n, "decayed beta * k")
    fresh = ops.matmul(t, system, v_beta, n, size, "fresh values")
    reads = ops.matmul(t, system, grown, n, size, "reads of the state")
    out = t.alloc(n, F32, "output")
    inner = one_by_one(t, (q, k, pairs), rows * size, chunks)
    q = outer(t, q, ops.unary(t, decay, "decay", "result"), n, "decayed q")
    k = outer(t, k, ops.unary(t, ops.shift(t, decay), "decay", "result"), n, "decayed k")
    out = loop(m, s, (fresh, reads, q, inner, k), out, chunks)
    if rows > scalars:
        out = ops.piece(t, out, m.rows * s.inner)
    del pairs, system, grown, v_beta, k_beta, v, beta, decay
    return ops.to(t, out, w) if w != F32 else ops.copy(t, out)


def within(t: Tape, a: Tensor, b: Tensor, pairs: Tensor, n: Any) -> Tensor:
    """(a.unsqueeze(-2) * b.unsqueeze(-3) * decay).sum(-1): pointwise, so no product is counted."""
    both = outer(t, a, b, pairs.n, "products of every pair and channel")
    return total(t, ops.mul(t, both, pairs, "decayed products"), n)


def one_by_one(t: Tape, ins: tuple[Tensor, Tensor, Tensor], n: Any, chunks: Any) -> Tensor:
    """The same, a chunk at a time in the loop over them: each keeps its product, and masks its sum."""
    every = ins[2].n
    recorded = t.grad and any(i.node is not None for i in ins) and (t.frame is None or t.again is not None)
    held = [t.alloc(every // chunks, F32, "decayed products") for _ in range(1 if recorded else 2)]
    kept = many(t, chunks, every // chunks, F32, "products of every pair and channel") if recorded else None
    made = t.emit("scores of the chunks", n, F32, ins, _one_by_one_bwd, kept, ([i.n for i in ins], chunks))
    del held
    return made


def _one_by_one_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """A chunk's gradient of the decay comes as zeros of the whole sequence, added in place."""
    sizes, chunks = node.extra
    outs = [t.alloc(n, g.w, "gradient of a chunk's part") for n in sizes]
    more = t.alloc(max(sizes), g.w, "gradient of one chunk, with zeros")
    held = [t.alloc(max(sizes) // chunks, g.w, "gradient of a product") for _ in range(2)]
    del more, held
    return tuple(o if p is not None else None for o, p in zip(outs, node.ins, strict=True))


def inverse(t: Tape, a: Tensor, rows: Any, size: Any) -> Tensor:
    """The loop over the rows of a chunk that inverts its triangle in place: row i keeps a copy of itself, of the
    triangle before it, and their product."""
    each = size * (size - 1) * (2 * size - 1) // 6  # sum of i * i
    if not (t.grad and a.node is not None):
        held = t.alloc(rows // size * (size - 1) * (size - 1), F32, "rows before")
        del held
        return a
    saved = many(t, 1, rows // size * each, F32, "rows before"), many(t, 1, a.n // 2, F32, "rows")
    out = Tensor(a.n, F32, a.st)
    t.record(out, (a,), _inverse_bwd, saved, None)
    return out


def _inverse_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    copied, grown = t.alloc(g.n, g.w, "gradient, copied"), t.alloc(g.n, g.w, "gradient of a row")
    del grown
    return (copied,)
