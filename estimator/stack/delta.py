"""Qwen3-Next without its fused kernels (no flash-linear-attention): the gated delta rule in chunks of fp32, and
attention whose query projection also yields a gate.

Source: transformers 5, models/qwen3_next/modeling_qwen3_next.py (torch_chunk_gated_delta_rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.families.base import Attention, StateSpace
from estimator.ops import ceil_div, maximum
from estimator.stack import moves, ops, products
from estimator.stack.attention import attend, cached, head_norm, rotate_part
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.recurrent import convolve, hold, many, minus_exp
from estimator.stack.shapes import cumsum, masked, outer, padded, permuted, spread, total
from estimator.stack.tape import BOOL, F32, GradFn, Tape, Tensor


def gated_attention(m: Machine, x: Tensor, a: Attention, at: Any) -> Tensor:
    """Qwen3NextAttention.forward."""
    t = m.t
    n = m.rows * a.heads * a.head_dim
    both = linear(m, x, a.projections[0])
    q, gate = ops.split(t, both, (n, n))
    gate = ops.copy(t, gate)
    q = head_norm(m, q, a.norms[0])
    k = head_norm(m, linear(m, x, a.projections[1]), a.norms[1])
    v = linear(m, x, a.projections[2])
    moves.by_heads(q, k, v)
    cos, sin = at["rope"](m, a)
    moves.fused(t, "rotary embedding", 2 * (q.n + k.n) * q.w)
    q = rotate_part(t, q, cos, sin, a.rope_dim, a.head_dim)
    k = rotate_part(t, k, cos, sin, a.rope_dim, a.head_dim)
    k, v = cached(m, a, k, v)
    out = attend(m, q, k, v, a, at["masks"](m, a), True)
    moves.fused(t, "gate", 3 * out.n * out.w)
    return linear(m, ops.mul(t, out, ops.sigmoid(t, gate), "gated attention"), a.out)


def gated_delta(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """Qwen3NextGatedDeltaNet.forward. x [b, s, d] -> [b, s, d]."""
    t = m.t
    bias, a_log, *weights = s.extras
    heads, times = s.sizes["value_heads"], s.sizes["value_heads"] // s.sizes["key_heads"]
    keys, values, scalars = m.rows * s.sizes["key_heads"] * s.state, m.rows * s.inner, m.rows * heads
    mixed, gate, beta, step, kept = inputs(m, x, s)
    mixed = permuted(t, convolve(m, mixed, s, tuple(weights)))
    q, k, v = ops.split(t, mixed, (keys, keys, values), True)
    beta = ops.sigmoid(t, beta)
    step = ops.add(t, ops.to(t, step, F32), m.extra(bias), "time step")
    decay = outer(t, minus_exp(m, a_log), ops.unary(t, step, "softplus", "input"), scalars, "log decay")
    if times != 1:
        q, k = spread(t, q, keys * times), spread(t, k, keys * times)
    if m.cache is not None and m.past != 0:
        out = next_token(m, s, v)
    else:
        out = rule(m, s, q, k, v, beta, decay)
        hold(m, 1, m.b * s.inner * s.state, F32, "recurrent state")
    out = linear(m, gated_norm(m, out, gate, s), s.linears[-1])
    del kept
    return out


Inputs = tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]


def inputs(m: Machine, x: Tensor, s: StateSpace) -> Inputs:
    """(q, k and v side by side; z; beta; the decay's step; what the caller's locals keep): out of four matrices
    (Qwen3.5) or two (Qwen3-Next)."""
    t = m.t
    keys, values, scalars = m.rows * s.sizes["key_heads"] * s.state, m.rows * s.inner, m.rows * s.sizes["value_heads"]
    if len(s.linears) > 3:
        mixed, gate, beta, step = (linear(m, x, lin) for lin in s.linears[:-1])
        return mixed, gate, beta, step, (beta, step)
    both, pair = linear(m, x, s.linears[0]), linear(m, x, s.linears[1])
    q, k, v, gate = ops.split(t, both, (keys, keys, values, values))
    beta, step = ops.split(t, pair, (scalars, scalars))
    v, gate, beta, step = (ops.copy(t, i) for i in (v, gate, beta, step))
    q, k = ops.copy(t, q), ops.copy(t, k)
    return ops.cat(t, (q, k, v), "q, k and v"), gate, beta, step, (both, pair)


def gated_norm(m: Machine, x: Tensor, gate: Tensor, s: StateSpace) -> Tensor:
    """Qwen3NextRMSNormGated: the norm, then the gate in fp32."""
    t = m.t
    w, rows = x.w, m.rows * s.sizes["value_heads"]
    x = ops.to(t, x, F32)
    variance = ops.mean(t, ops.power(t, x), rows)
    x = ops.mul(t, x, ops.unary(t, ops.shift(t, variance), "rsqrt", "result", 2), "normalised")
    weight, _ = m.norm_weights(s.norms[0])
    x = ops.to(t, x, w)
    if weight is not None:
        x = ops.mul(t, weight, x, "norm output")
    return ops.to(t, ops.mul(t, x, ops.silu(t, ops.to(t, gate, F32)), "gated"), w)


def unit(t: Tape, x: Tensor, rows: Any) -> Tensor:
    """l2norm."""
    square = total(t, outer(t, x, x, x.n, "squares"), rows)
    return ops.mul(t, x, ops.unary(t, ops.shift(t, square), "rsqrt", "result", 2), "normalised")


def rule(m: Machine, s: StateSpace, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """torch_chunk_gated_delta_rule."""
    t = m.t
    w, heads, size = q.w, s.sizes["value_heads"], s.sizes["chunk"]
    chunks = ceil_div(m.s, size)
    rows = m.b * heads * chunks * size
    scalars = m.rows * heads
    n_k, n_v = rows * s.state, rows * s.sizes["value_dim"]
    moves.by_heads(q, k, v)
    q, k, v, beta = wide(t, q), wide(t, k), wide(t, v), wide(t, permuted(t, beta))
    decay = permuted(t, decay)
    q, k = ops.scale(t, unit(t, q, scalars)), unit(t, k, scalars)
    q, k, v = padded(t, q, n_k), padded(t, k, n_k), padded(t, v, n_v)
    beta, decay = padded(t, beta, rows), padded(t, decay, rows)
    v_beta, k_beta = outer(t, v, beta, n_v, "beta * v"), outer(t, k, beta, n_k, "beta * k")
    q, k, v_beta, k_beta = (in_chunks(t, i) for i in (q, k, v_beta, k_beta))
    moves.log(t, "upper triangle", 2, moved=3 * size * size)
    sums = cumsum(t, decay)
    pairs = outer_difference(t, sums, rows * size)
    pairs = masked(t, pairs, t.alloc(size * size, BOOL, "upper triangle"))
    pairs = ops.unary(t, pairs, "decay of every pair", "result")
    system = ops.mul(t, ops.matmul(t, k_beta, k, rows * size, s.state, "system", True), pairs, "system")
    inner = ops.mul(t, ops.matmul(t, q, k, rows * size, s.state, "scores", True), pairs, "attention within a chunk")
    decayed = outer(t, k_beta, ops.unary(t, sums, "decay", "result"), n_k, "decayed beta * k")
    fresh, reads = solve(t, system, v_beta, size), solve(t, system, decayed, size)
    out = t.alloc(n_v, F32, "output")
    q = outer(t, q, ops.unary(t, sums, "decay", "result"), n_k, "decayed q")
    left = ops.sub(t, ops.piece(t, sums, rows // size), sums, "log decay")
    k = outer(t, k, ops.unary(t, left, "decay", "result"), n_k, "decayed k")
    del left
    ends = ops.unary(t, ops.piece(t, sums, rows // size), "decay of the chunks", "result")
    out = in_order(t, loop(m, s, (fresh, reads, q, inner, k, ends), out, chunks))
    if rows > scalars:
        out = ops.piece(t, out, m.rows * s.inner)
    out = permuted(t, out)
    del pairs, system, decayed, v_beta, k_beta, v, beta, decay
    out = ops.to(t, out, w) if w != F32 else ops.copy(t, out)
    out.lay = moves.ROWS
    return out


def wide(t: Tape, x: Tensor) -> Tensor:
    """x.transpose(1, 2).to(fp32, contiguous)."""
    out = ops.to(t, x, F32) if x.w != F32 else ops.copy(t, x)
    out.lay = moves.BY_HEADS
    return out


def in_chunks(t: Tape, x: Tensor) -> Tensor:
    """A view in chunks: a gradient with the tokens innermost is copied to be seen whole again."""
    out = Tensor(x.n, x.w, x.st)
    out.lay = x.lay
    if t.grad and x.node is not None:
        t.record(out, (x,), _in_chunks_bwd)
    return out


def _of_chunks(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    if g.lay == moves.TURNED:
        moves.log(t, "gradient, copied", strided=g.n)
        g.lay = moves.BY_HEADS


@moves.moving(backward=_of_chunks)
def _in_chunks_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (g,)


def in_order(t: Tape, x: Tensor) -> Tensor:
    """Chunks with the tokens innermost, copied to be seen as one sequence."""
    moves.log(t, "output, in order", strided=x.n)
    out = Tensor(x.n, x.w, x.st, x.node, x.idx)
    out.lay = moves.BY_HEADS
    return out


def outer_difference(t: Tape, x: Tensor, n: Any) -> Tensor:
    """Every pair's difference: the gradient is summed once along each axis."""
    return t.emit("differences", n, x.w, (x,), _difference_bwd, None, x.n)


def _of_difference(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Negated, summed along either axis, and added."""
    n, w = node.extra, g.w
    moves.log(t, "gradient of the differences", 4, moved=(2 * g.n + 2 * (g.n + n) + 3 * n) * w)
    for out in outs:
        if out is not None:
            out.lay = moves.BY_HEADS


@moves.moving(moves.repeated, _of_difference)
def _difference_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    negative = t.alloc(g.n, g.w, "gradient, negated")
    out = t.alloc(node.extra, g.w, "gradient, summed")
    del negative
    return (out,)


def solve(t: Tape, a: Tensor, b: Tensor, size: Any) -> Tensor:
    """torch.linalg.solve_triangular: saves the matrix and its own result. No product, but its matrix's gradient is."""
    saved = [a.st]
    out = t.emit("solution", b.n, b.w, (a, b), _solve_bwd, saved, (a.n, b.n))
    saved.append(out.st)
    if t.work is not None:
        rows = a.n // size
        products.log(t, out, f"{products.scan_name(t)}.solve", products.SCAN, size, b.n // rows, size, rows // size,
                     operator="backward", grads=(0, False))  # fmt: skip
    return out


def _solved(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """The solver's result lies with the tokens innermost."""
    moves.log(t, what, strided=out.n)
    out.lay = moves.TURNED


def _of_solution(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """The transposed system solved; for the matrix a product, negated, and its lower triangle."""
    left, right = outs
    moves.log(t, "gradient, solved", strided=g.n)
    if right is not None:
        right.lay = moves.TURNED
    if left is not None:
        moves.log(t, "gradient of the matrix", 2, moved=4 * left.n * left.w)
        left.lay = moves.BY_HEADS


@moves.moving(_solved, _of_solution)
def _solve_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    n_a, n_b = node.extra
    right = t.alloc(n_b, g.w, "gradient of the right side")
    product = t.alloc(n_a, g.w, "gradient of the matrix")
    negative = t.alloc(n_a, g.w, "gradient of the matrix, negated")
    del product
    left = t.alloc(n_a, g.w, "gradient of the matrix, lower triangle")
    del negative
    return (left if node.ins[0] is not None else None, right if node.ins[1] is not None else None)


def loop(m: Machine, s: StateSpace, ins: tuple[Tensor, ...], out: Tensor, chunks: Any) -> Tensor:
    """The recurrence over the chunks; written into ``out``."""
    t = m.t
    state_n = m.b * s.inner * s.state
    size = out.n // chunks
    if t.grad and any(i.node is not None for i in ins) and (t.frame is None or t.again is not None):
        states = many(t, chunks, state_n, F32, "states of the chunks")
        news = many(t, chunks, size, F32, "new values of the chunks")
        saved: Any = (states, news, *(i.st for i in ins))
    else:
        held = [t.alloc(state_n, F32, "state") for _ in range(3)] + [t.alloc(size, F32, "new values") for _ in range(4)]
        del held
        saved = (out.st,)
    made = Tensor(out.n, F32, out.st)
    made.lay = moves.TURNED
    moves.log(t, "first state and output", 2, moved=(state_n + out.n) * F32)
    moves.log(t, "turns of the chunks", 5 * chunks, 12 * (size + state_n) * chunks, (2 * size + state_n) * chunks)
    if t.grad:
        t.record(made, ins, _loop_bwd, saved, ([i.n for i in ins], out.n, size, state_n))
    if t.work is not None:
        turns(t, s, made, m.b * s.sizes["value_heads"], chunks)
    return made


def turns(t: Tape, s: StateSpace, made: Tensor, heads: Any, chunks: Any) -> None:
    """The products of the loop. The first state is zero and wants no gradient; the last update is never used."""
    c, d_k, d_v, later = s.sizes["chunk"], s.sizes["key_dim"], s.sizes["value_dim"], heads * (chunks - 1)
    for name, m, k, n, count, left, right in (
        ("state_read_first", c, d_k, d_v, heads, True, False),
        ("state_read", c, d_k, d_v, later, True, True),
        ("state_query_first", c, d_k, d_v, heads, True, False),
        ("state_query", c, d_k, d_v, later, True, True),
        ("values", c, c, d_v, heads * chunks, True, True),
        ("state_update", d_k, c, d_v, later, True, True),
        ("state_update_last", d_k, c, d_v, heads, False, False),
    ):
        at = f"{products.scan_name(t)}.{name}"
        products.log(t, made, at, products.SCAN, m, k, n, count, operator="bmm", grads=(left, right))


def _turns_back(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Each chunk's part of the gradient is taken out of a copy of the whole (CopySlices), and what was selected for it
    comes as zeros of the whole, into which its gradient is put, added to those of the chunks after it. The first state
    is zero, the last one is not used."""
    sizes, n, size, state_n = node.extra
    w, chunks = g.w, n // size
    later, between = chunks - 1, maximum(chunks - 2, 0)
    moves.log(t, "gradient of a chunk's output", 2 * chunks, strided=(n + size) * chunks)
    moves.log(t, "gradient of a chunk's place", 2 * later, moved=size * w * later, strided=size * later)
    moves.log(t, "gradient of the values, negated", chunks, moved=2 * size * w * chunks)
    moves.log(t, "gradients of the values, added", later, moved=3 * size * w * later)
    moves.log(t, "gradients of the state, added", later + between, moved=3 * state_n * w * (later + between))
    moves.log(t, "gradient of the state, decayed", between, strided=state_n * between)
    if len(sizes) > 5:
        decays = sizes[5] // chunks
        moves.log(t, "gradient of the decay", 2 * later, moved=(4 * state_n + decays) * w * later)
    for i, whole in enumerate(sizes):
        count = chunks if i < 4 else later  # keys and decays serve the chunk after theirs
        moves.log(t, "gradients of the selected", 2 * count, whole * w * count, whole // chunks * count)
        moves.log(t, "gradients of the selected, added", count - 1, 3 * whole * w * (count - 1))
    for out in outs:
        if out is not None:
            out.lay = moves.BY_HEADS


@moves.moving(backward=_turns_back)
def _loop_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """Every chunk's gradients come as zeros of the whole sequence, added in place; the output's is copied each time."""
    sizes, n, size, state_n = node.extra
    copied = t.alloc(n, g.w, "gradient of the output, copied")
    outs = [t.alloc(i, F32, "gradient of a chunk's part") for i in sizes]
    more = t.alloc(max(sizes), F32, "gradient of one chunk, with zeros")
    held = [t.alloc(size, F32, "gradient of new values"), t.alloc(state_n, F32, "gradient of a state")]
    del copied, more, held
    return tuple(o if p is not None else None for o, p in zip(outs, node.ins, strict=True))


def next_token(m: Machine, s: StateSpace, v: Tensor) -> Tensor:
    """torch_recurrent_gated_delta_rule for one token."""
    t = m.t
    held = [t.alloc(m.b * s.inner * s.state, F32, "state") for _ in range(3)]
    out = t.alloc(m.rows * s.inner, F32, "output")
    del held
    return ops.to(t, out, v.w)
