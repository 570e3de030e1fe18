"""Hyper-connections: several residual streams, weighed into what a block reads and mixed as its output is added.

Source: transformers 5.24, models/deepseek_v4/modeling_deepseek_v4.py (DeepseekV4HyperConnection, HyperHead).
"""

from __future__ import annotations

from collections.abc import Callable

from estimator.families.base import Streams
from estimator.stack import ops
from estimator.stack.machine import Machine
from estimator.stack.nn import product
from estimator.stack.products import MLP
from estimator.stack.shapes import outer, total
from estimator.stack.tape import F32, Tensor


def connected(m: Machine, x: Tensor, s: Streams, block: Callable[[Tensor], Tensor]) -> Tensor:
    """The streams [b, s, n, d] after a block: its output weighed for each, and they themselves mixed."""
    t, w = m.t, x.w
    pre, post, comb = weighed(m, x, s)
    out = block(one(m, x, pre, s))
    del pre
    added = outer(t, ops.to(t, post, w), out, x.n, "output for every stream")
    mixed = ops.matmul(t, ops.to(t, comb, w), x, x.n, s.count, "mixed streams")
    return ops.add(t, added, mixed, "streams")


def collapsed(m: Machine, x: Tensor, s: Streams) -> Tensor:
    """The streams weighed into one [b, s, d], at the end of the stack."""
    if not s.extras:  # GLM-5.3-Flash: their mean
        return ops.mean(m.t, x, m.rows * s.d)
    return one(m, x, shifted(m, values(m, x, s), s), s)


def one(m: Machine, x: Tensor, pre: Tensor, s: Streams) -> Tensor:
    """(pre * streams).sum(2), in fp32."""
    t = m.t
    return ops.to(t, total(t, outer(t, pre, x, x.n, "weighed streams"), m.rows * s.d), x.w)


def values(m: Machine, x: Tensor, s: Streams) -> Tensor:
    """All streams of a token, normalised in fp32, against the matrix of weights."""
    t = m.t
    flat = ops.to(t, x, F32)
    flat = ops.mul(t, flat, ops.unary(t, ops.shift(t, ops.mean(t, ops.power(t, flat), m.rows)), "rsqrt", "result", 2))
    fn = s.extras[0]
    n = m.rows * fn.shape[0]
    with t.no_autocast():
        return product(t, flat, m.extra(fn, F32), None, n, "weights of the streams", False, fn.name, MLP, m.rows)


def shifted(m: Machine, raw: Tensor, s: Streams) -> Tensor:
    """sigmoid(raw * scale + base) + eps."""
    t = m.t
    base, scale = (m.extra(e, F32) for e in s.extras[1:3])
    raw = ops.mul(t, raw, ops.piece(t, scale, 1), "scaled weights")
    return ops.shift(t, ops.sigmoid(t, ops.add(t, raw, ops.piece(t, base, s.count), "weights")))


def weighed(m: Machine, x: Tensor, s: Streams) -> tuple[Tensor, Tensor, Tensor]:
    """(pre, post, comb): for what goes in, for what comes out, and a doubly stochastic matrix between the streams."""
    t, n = m.t, m.rows * s.count
    raw_pre, raw_post, raw = ops.split(t, values(m, x, s), (n, n, n * s.count))
    base, scale = (m.extra(e, F32) for e in s.extras[1:3])
    pre, post = shifted(m, raw_pre, s), shifted(m, raw_post, s)
    raw = ops.mul(t, raw, ops.piece(t, scale, 1), "scaled weights")
    raw = ops.add(t, raw, ops.piece(t, base, s.count * s.count), "weights")
    comb = ops.shift(t, ops.softmax(t, raw))
    for _ in range(2 * s.rounds - 1):  # by columns, then rows and columns in turn
        comb = ops.mul(t, comb, ops.shift(t, total(t, comb, n)), "balanced weights")
    return pre, post, comb
