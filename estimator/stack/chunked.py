"""Mamba 2 without its fused kernels: the chunked scan written out in fp32, with products over every pair of tokens of
a chunk and every channel of the state.

Source: transformers 5, models/mamba2/modeling_mamba2.py (mamba2_chunk_scan, MambaRMSNormGated).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.families.base import StateSpace
from estimator.ops import ceil_div
from estimator.stack import moves, ops, products
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.recurrent import convolve, hold, minus_exp
from estimator.stack.shapes import clamp, contracted, cumsum, masked, outer, padded, permuted, spread, total
from estimator.stack.tape import BOOL, F32, GradFn, Param, Tape, Tensor


def mamba2(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """Mamba2Mixer.forward. x [b, s, d] -> [b, s, d]."""
    t = m.t
    bias, a_log, skip, *weights = s.extras
    heads, per_group = s.sizes["heads"], s.sizes["groups"] * s.state
    both = linear(m, x, s.linears[0])
    w = both.w
    a = minus_exp(m, a_log)
    gate, mixed, step = ops.split(t, both, (m.rows * s.inner, m.rows * s.conv_width, m.rows * heads))
    mixed = permuted(t, convolve(m, mixed, s, tuple(weights)))
    hidden, b, c = ops.split(t, mixed, (m.rows * s.inner, m.rows * per_group, m.rows * per_group))
    if m.cache is not None and m.past != 0:
        out = next_token(m, s, hidden, step, a, b, c, m.extra(skip), m.extra(bias))
    else:
        out = scan(m, s, hidden, step, a, b, c, m.extra(skip), m.extra(bias))
        hold(m, 1, m.b * s.inner * s.state, F32, "recurrent state", not t.single)
    if s.norms:
        weight, _ = m.norm_weights(s.norms[0])
        out = gated_norm(t, out, gate, m.rows, weight)
    else:  # Falcon-H1: the gate alone
        out = ops.mul(t, out, ops.silu(t, gate), "gated scan")
    return linear(m, ops.to(t, out, w), s.linears[1])


def gated_norm(t: Tape, x: Tensor, gate: Tensor, rows: Any, weight: Param | None) -> Tensor:
    """MambaRMSNormGated: the gate goes in before the norm, all in fp32."""
    w = x.w
    x = ops.to(t, x, F32)
    x = ops.mul(t, x, ops.silu(t, ops.to(t, gate, F32)), "gated scan")
    variance = ops.mean(t, ops.power(t, x), rows)
    x = ops.mul(t, x, ops.unary(t, ops.shift(t, variance), "rsqrt", "result", 2), "normalised")
    del variance
    return x if weight is None else ops.mul(t, weight, ops.to(t, x, w), "norm output")


def scan(
    m: Machine, s: StateSpace, hidden: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    bias: Tensor,
) -> Tensor:  # fmt: skip
    """mamba2_chunk_scan: what holds within each chunk, the chunks' states, their recurrence, and what they add."""
    t = m.t
    heads, size = s.sizes["heads"], s.sizes["chunk"]
    chunks = ceil_div(m.s, size)
    rows = m.b * chunks * size  # with padding
    pairs, states_n = rows * size * heads, m.b * s.inner * s.state
    step = ops.add(t, step, ops.to(t, bias, step.w), "time step")
    if t.amp:
        step = ops.to(t, step, F32)
    step = clamp(t, ops.unary(t, step, "softplus", "input"))
    hidden = ops.to(t, hidden, F32)
    b = spread(t, ops.to(t, b, F32), m.rows * heads * s.state)
    c = spread(t, ops.to(t, c, F32), m.rows * heads * s.state)
    residual = outer(t, skip, padded(t, hidden, rows * s.inner), rows * s.inner, "D * x")
    hidden = outer(t, hidden, ops.to(t, step, F32), hidden.n, "x * dt")
    a = outer(t, a, ops.to(t, step, F32), m.rows * heads, "A * dt")
    hidden, a, b, c = (padded(t, i, i.n // m.rows * rows) for i in (hidden, a, b, c))
    a = permuted(t, a)
    sums = cumsum(t, a)
    within = ops.unary(t, segment_sum(t, a, pairs, size), "decay within a chunk", "result")
    g = contracted(t, c, b, pairs, s.state, "C * B of every pair", "scores")
    weights = total(t, outer(t, g, permuted(t, within), pairs, "C * B * decay"), pairs)
    diagonal = contracted(t, weights, hidden, hidden.n, size, "values of every pair", "values")
    decay = ops.unary(t, ops.sub(t, ops.piece(t, sums, sums.n // size), sums, "log decay"), "decay", "result")
    decayed = outer(t, b, permuted(t, decay), b.n, "B * decay")
    states = contracted(t, decayed, hidden, chunks * states_n, size, "B * x", "chunk_states")
    first = t.alloc(states_n, F32, "first state")
    moves.log(t, "first state", moved=states_n * F32)
    states = ops.cat(t, (first, states), "states of the chunks")
    across = chunk_decay(m, sums, heads, chunks)
    fresh = contracted(t, permuted(t, across), states, states.n, chunks + 1, "decayed states", "between_chunks")
    entering = ops.piece(t, fresh, chunks * states_n)
    out_decay = ops.unary(t, sums, "decay", "result")
    seen = outer(t, c, entering, rows * s.inner * s.state, "C * states")
    products.batched(t, seen, c.n, entering.n, s.state, "states_out", hidden.n)
    across_out = outer(t, total(t, seen, hidden.n), permuted(t, out_decay), hidden.n, "output of the states")
    out = ops.add(t, ops.add(t, diagonal, across_out, "output"), residual, "output")
    del seen, diagonal, across_out, within, g, weights, decayed, residual
    if rows == m.rows:
        return out
    out = ops.piece(t, out, m.rows * s.inner)
    out.lay = moves.ROWS if t.single else out.lay  # the first rows of one sequence are whole
    return out


def chunk_decay(m: Machine, sums: Tensor, heads: Any, chunks: Any) -> Tensor:
    """exp(segment_sum) over the chunks' last sums."""
    t = m.t
    last = padded(t, ops.piece(t, sums, m.b * heads * chunks), m.b * heads * (chunks + 1))
    n = m.b * heads * (chunks + 1) * (chunks + 1)
    return ops.unary(t, segment_sum(t, last, n, chunks + 1), "decay of the chunks", "result")


def segment_sum(t: Tape, x: Tensor, n: Any, size: Any) -> Tensor:
    """segment_sum: a cumulative sum over the expanded input, masked before and after."""
    mask = t.alloc(size * size, BOOL, "lower triangle")
    moves.log(t, "triangles", 6, moved=10 * size * size)
    wide = t.emit("expanded", n, x.w, (x,), _expanded_bwd, t.alloc(size * size, BOOL, "upper triangle").st, x.n)
    sums = cumsum(t, wide)
    upper = t.alloc(size * size, BOOL, "upper triangle")
    out = masked(t, sums, upper)
    del mask, wide
    return out


def _of_expanded(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of what is expanded and masked: the gradient is masked, and summed."""
    for out in outs:
        if out is not None:
            moves.log(t, "gradient, masked and summed", 2, (g.n + out.n) * g.w, g.n)
            out.lay = moves.BY_HEADS


@moves.moving(moves.repeated, _of_expanded)
def _expanded_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    held = t.alloc(g.n, g.w, "gradient, masked")
    out = t.alloc(node.extra, g.w, "gradient, summed")
    del held
    return (out,)


def next_token(
    m: Machine, s: StateSpace, hidden: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    bias: Tensor,
) -> Tensor:  # fmt: skip
    """mamba2_selective_state_update."""
    t = m.t
    n, w = m.b * s.inner * s.state, hidden.w
    wide = outer(t, step, bias, m.b * s.inner, "time step of every channel")
    wide = ops.unary(t, wide, "softplus", "input")
    decay = ops.unary(t, outer(t, ops.to(t, wide, F32), a, n, "A * dt"), "decay", "result")
    write = outer(t, wide, spread(t, b, m.b * s.sizes["heads"] * s.state), n, "B * dt")
    fed = outer(t, write, hidden, n, "B * dt * x")
    turn = t.alloc(n, F32, "decayed state")
    state = t.alloc(n, F32, "state")
    del turn
    reader = spread(t, c, m.b * s.sizes["heads"] * s.state)
    state = ops.to(t, state, w)
    out = ops.matmul(t, state, reader, hidden.n, s.state, "scan")
    out = ops.add(t, out, ops.mul(t, hidden, skip), "scan with skip")
    del decay, write, fed
    return ops.to(t, out, w)
