"""State-space mixers without their fused kernels (no mamba_ssm, no causal_conv1d): Mamba, Falcon-Mamba, Jamba.

The selective scan is a loop over the tokens in PyTorch operations. Its loop is one node here: what one turn saves is
held once for every token, and its backward pass is taken at its highest, the second turn.
Source: transformers 5, models/{mamba,falcon_mamba,jamba}/modeling_*.py and cache_utils.py (LinearAttentionLayer).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from estimator.families.base import Layer, Linear, StateSpace
from estimator.stack import moves, ops, products
from estimator.stack.machine import Machine
from estimator.stack.nn import linear, product
from estimator.stack.norms import norm
from estimator.stack.recurrent import convolve, hold, many, minus_exp
from estimator.stack.shapes import outer, permuted
from estimator.stack.tape import F32, GradFn, Tape, Tensor

SCAN_LAUNCHES = 6  # mamba_ssm: causal_conv1d, activation, selective scan, gate and their casts

# StateSpace.kind -> module.function of this folder
MIXERS = {
    "selective": "ssm.selective",
    "chunked": "chunked.mamba2",
    "lightning": "lightning.lightning",
    "short_conv": "ssm.short_conv",
    "gated_delta": "delta.gated_delta",
    "channel_delta": "channel_delta.channel_delta",
    "time_mix": "rwkv.time_mix",
    "rg_lru": "griffin.rg_lru",
}


def mixer(m: Machine, x: Tensor, s: StateSpace, at: Any) -> Tensor:
    """The mixer of one layer. x [b, s, d] -> [b, s, d]."""
    moves.fused(m.t, "scan", m.rows * (2 * s.conv_width + 4 * s.inner) * x.w, SCAN_LAUNCHES)
    module, _, name = MIXERS[s.kind].partition(".")
    out: Tensor = getattr(import_module(f"estimator.stack.{module}"), name)(m, x, s)
    return out


def short_conv(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """Lfm2ShortConv.forward: C * conv(B * x)."""
    t = m.t
    n = m.rows * s.inner
    b, c, hidden = ops.split(t, linear(m, x, s.linears[0]), (n, n, n))
    mixed = convolve(m, ops.mul(t, b, hidden, "B * x"), s, s.extras)
    return linear(m, ops.copy(t, ops.mul(t, c, mixed, "C * convolution")), s.linears[-1])


def block(m: Machine, x: Tensor, layer: Layer, at: Any) -> Tensor:
    """MambaBlock.forward: the residual in fp32 where residual_in_fp32."""
    t = m.t
    residual = x
    if layer.ahead is not None:
        from estimator.stack.ahead import shared_block

        x = ops.add(t, x, shared_block(m, x, layer.ahead, at), "stream and shared block")
    x = norm(m, ops.to(t, x, m.w), layer.norms[0])
    if at["facts"].get("residual_fp32"):
        residual = ops.to(t, residual, F32)
    assert isinstance(layer.mixer, StateSpace)
    with t.at("mixer", layer.mixer):
        x = mixer(m, x, layer.mixer, at)
    return ops.add(t, residual, x, "residual")


def strided_linear(m: Machine, x: Tensor, lin: Linear) -> Tensor:
    """A linear layer of a permuted input, which is copied first, but where it is one matrix; an adapter's own copy is
    the converted one."""
    return linear(m, x if m.t.single or m.adapters(lin.name) is not None else ops.copy(m.t, x), lin)


def selective(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """MambaMixer.forward, FalconMambaMixer.forward, JambaMambaMixer.forward."""
    t = m.t
    in_proj, x_proj, dt_proj, out_proj = s.linears
    a_log, d_skip, *weights = s.extras
    w, rank, n = x.w, s.sizes["dt_rank"], m.rows * s.inner
    by_channels = permuted if t.single else ops.by_heads  # one transposed matrix needs no copy of its gradient
    both = by_channels(t, linear(m, x, in_proj))
    if t.amp:
        w = both.w
    a = minus_exp(m, a_log)
    if s.sizes["tried"] and m.training:
        for part in (m.extra(d_skip), m.weight(dt_proj)[1]):
            if part is not None and part.w != F32:
                moves.over(t, "argument, converted", (part,), t.alloc(part.n, F32, "argument, converted"))
    hidden, gate = ops.split(t, both, (n, n))
    hidden = convolve(m, hidden, s, tuple(weights))
    seen = permuted(t, hidden)
    low = strided_linear(m, seen, x_proj)
    hidden = permuted(t, seen)
    del seen
    parts = ops.split(t, low, (m.rows * rank, m.rows * s.state, m.rows * s.state))
    if s.norms:
        parts = [norm(m, p, nm) for p, nm in zip(parts, s.norms, strict=True)]
    step, b, c = parts
    del parts
    weight, bias = m.weight(dt_proj)
    assert bias is not None
    step = product(t, step, weight, None, n, "time step", rows=m.rows)
    moves.by_heads(step)
    step = by_channels(t, ops.copy(t, step))
    step.lay = moves.BY_HEADS
    wide_bias = ops.to(t, bias, F32)
    if m.cache is not None and m.past != 0:
        out = next_token(m, s, hidden, step, a, b, c, m.extra(d_skip), gate, wide_bias)
        final = None
    else:
        out, final = scan(m, s, hidden, step, a, b, c, ops.to(t, m.extra(d_skip), F32), gate, wide_bias)
        hold(m, 1, final.n, final.w, "recurrent state")
    out = permuted(t, out)
    return strided_linear(m, ops.to(t, out, w), out_proj)


def scan(
    m: Machine, s: StateSpace, hidden: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, d_skip: Tensor,
    gate: Tensor, bias: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """mamba_selective_scan: decays and inputs of the whole sequence in fp32, then token by token."""
    t = m.t
    whole = m.rows * s.inner * s.state
    step = ops.add(t, step, ops.to(t, bias, step.w), "time step")
    if t.amp:
        step = ops.to(t, step, F32)
    step = ops.unary(t, step, "softplus", "input")
    decay = ops.unary(t, outer(t, a, step, whole, "A * dt"), "decay", "result")
    write = outer(t, step, ops.to(t, b, F32), whole, "B * dt")
    fed = outer(t, write, ops.to(t, hidden, F32), whole, "B * dt * x")
    out, final = loop(m, s, hidden, decay, fed, c)
    skipped = outer(t, hidden, d_skip, hidden.n, "D * x")
    out = ops.add(t, out, skipped, "scan with skip")
    del skipped
    return ops.mul(t, out, ops.silu(t, gate), "gated scan"), final


def loop(m: Machine, s: StateSpace, hidden: Tensor, decay: Tensor, fed: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence: state = decay * state + fed; output = state @ C, for one token after the other."""
    t = m.t
    n, w = m.b * s.inner * s.state, hidden.w
    first = t.alloc(n, w, "first state")
    recorded = t.grad and any(i.node is not None for i in (decay, fed, c))
    if recorded and (t.frame is None or t.again is not None):
        states = many(t, m.s - 1, n, F32, "states of the scan")
        halves = many(t, m.s, n, w, "states of the scan, converted") if w != F32 else None
        outs = many(t, m.s, m.b * s.inner, w, "outputs of the scan")
        final = t.alloc(n, F32, "last state")
        saved: Any = (first.st, states, halves, decay.st, c.st)
    else:
        outs = many(t, m.s, m.b * s.inner, w, "outputs of the scan")
        old = t.alloc(n, F32, "state")
        turn = t.alloc(n, F32, "decayed state")
        final = t.alloc(n, F32, "last state")
        del turn, old
        saved = (first.st,) if recorded else None  # in a checkpointed layer nothing outlives its turn
    cast = int(w != F32)
    moves.log(t, "turns of the scan", (2 + cast) * m.s + 2, cast * m.s * n * (F32 + w) + n * w, 2 * m.s * n + hidden.n)
    out = t.emit("scan", hidden.n, w, (decay, fed, c), _loop_bwd, saved, (decay.n, n, c.n, c.w))
    if t.work is not None:
        products.log(t, out, products.scan_name(t), products.SCAN, s.inner, s.state, 1, m.rows, operator="bmm",
                     grads=(True, 2))  # fmt: skip
    del outs
    return out, final


def _scanned(t: Tape, what: str, out: Tensor, ins: Any) -> None:
    """The turns have a log of their own; their outputs are stacked channel by channel."""
    out.lay = moves.BY_HEADS


def _turns_back(t: Tape, node: GradFn, g: Tensor, outs: Any) -> None:
    """Of each token: two products with the state's gradient and their sum, and the gradients of what was selected:
    zeros of the whole sequence, into which one token's are put, and which are added to those of the tokens after it."""
    whole, n, n_c, w = node.extra
    tokens = whole // n
    later, wide = tokens - 1, w == F32
    moves.log(t, "gradient of the state", 3 * later + 1, (24 * later + 12 * wide) * n, (tokens - wide) * n)
    if not wide:
        moves.log(t, "gradient of the state, converted", tokens, tokens * n * (F32 + w))
    moves.log(t, "gradients of the selected", 4 * tokens, 2 * tokens * whole * F32, 2 * whole)
    moves.log(t, "gradients of the selected, added", 2 * later, 24 * later * whole)
    moves.log(t, "gradient of C", 2 * tokens + later, (tokens + 3 * later) * n_c * w, n_c)
    moves.log(t, "gradient of the outputs", 2 * tokens, g.n * g.w, g.n)


@moves.moving(_scanned, _turns_back)
def _loop_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """select_backward fills zeros of the whole sequence for every token; they are added in place."""
    whole, n, n_c, w_c = node.extra
    fed = t.alloc(whole, F32, "gradient of B * dt * x")
    decay = t.alloc(whole, F32, "gradient of the decay")
    out_c = t.alloc(n_c, w_c, "gradient of C")
    state, product_ = t.alloc(n, F32, "gradient of a state"), t.alloc(n, F32, "gradient of a decay")
    turn = t.alloc(whole, F32, "gradient of one token, with zeros")
    del turn, state, product_
    return tuple(o if p is not None else None for o, p in zip((decay, fed, out_c), node.ins, strict=True))


def next_token(
    m: Machine, s: StateSpace, hidden: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, d_skip: Tensor,
    gate: Tensor, bias: Tensor,
) -> Tensor:  # fmt: skip
    """mamba_selective_state_update."""
    t = m.t
    n = m.b * s.inner * s.state
    step = ops.unary(t, ops.add(t, step, ops.to(t, bias, step.w), "time step"), "softplus", "input")
    decay = ops.unary(t, outer(t, ops.to(t, step, F32), a, n, "A * dt"), "decay", "result")
    write = outer(t, ops.to(t, step, F32), ops.to(t, b, F32), n, "B * dt")
    fed = outer(t, write, ops.to(t, hidden, F32), n, "B * dt * x")
    turn = t.alloc(n, F32, "decayed state")
    state = t.alloc(n, F32, "state")
    del turn
    out = ops.matmul(t, ops.to(t, state, c.w), c, hidden.n, s.state, "scan")
    out = ops.add(t, out, ops.mul(t, hidden, d_skip), "scan with skip")
    out = ops.mul(t, out, ops.silu(t, gate), "gated scan")
    del decay, write, fed, state
    return ops.to(t, out, hidden.w)
