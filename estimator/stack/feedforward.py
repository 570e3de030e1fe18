"""The MLP of a layer, dense or gated, with separate or fused projections."""

from __future__ import annotations

from typing import Any

from estimator.families.base import MLP
from estimator.stack import across, gradients, liger, moves, ops
from estimator.stack.machine import Machine
from estimator.stack.nn import activation, linear
from estimator.stack.norms import norm
from estimator.stack.shapes import clamp
from estimator.stack.special import bloom_gelu
from estimator.stack.tape import BOOL, F32, GradFn, Tape, Tensor


def swiglu_oai(t: Tape, gate: Tensor, up: Tensor) -> Tensor:
    """gpt-oss and MiniMax M3: both clamped; (up + 1) * gate * sigmoid(alpha * gate)."""
    gate, up = clamp(t, gate, 1), clamp(t, up)
    glu = ops.mul(t, gate, ops.sigmoid(t, ops.scale(t, gate)), "gate")
    return ops.mul(t, ops.shift(t, up), glu, "gated")


def cut_off(t: Tape, x: Tensor, rows: Any) -> Tensor:
    """Gemma3nTextMLP._gaussian_topk: relu(x - (mean + deviation * factor))."""
    mean = ops.mean(t, x, rows)
    deviation = t.emit("deviation", rows, x.w, (x,), _deviation_bwd, x.st, x.n)
    return ops.relu(t, ops.sub(t, x, ops.add(t, mean, ops.scale(t, deviation))))


@moves.moving(moves.reduced, gradients.spread)
def _deviation_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """std_backward: what is left of the input without its mean, times the gradient."""
    held = t.alloc(node.extra, g.w, "input less its mean")
    out = t.alloc(node.extra, g.w, "gradient of a deviation")
    del held
    return (out,)


def xielu(m: Machine, x: Tensor, block: MLP) -> Tensor:
    """XIELUActivation._xielu_python, operation by operation: two trained numbers, one for each side of zero; softplus
    and expm1 are in fp32 under autocast, which widens what follows.

    Source: transformers 5.17, activations.py, lines 281 to 288.
    """
    t, w = m.t, F32 if m.t.amp else x.w
    above, below = (ops.unary(t, ops.to(t, m.extra(part), w), "softplus", "input") for part in block.extras)
    below = ops.shift(t, below)
    mask = t.alloc(x.n, BOOL, "above zero")
    high = ops.add(t, ops.mul(t, ops.mul(t, above, x), x), ops.scale(t, x))
    least = t.emit("minimum", x.n, x.w, (x,), _minimum_bwd, x.st)
    low = ops.unary(t, ops.to(t, least, w), "expm1", "result", 1)
    del least
    low = ops.sub(t, low, x)
    low = ops.mul(t, low, below)
    low = ops.add(t, low, ops.scale(t, x))
    return t.emit("xielu", x.n, high.w, (high, low), _where_bwd, mask.st)


@moves.moving(backward=gradients.least)
def _minimum_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """where(x == y, g / 2, g).masked_fill_(x > y, 0): both comparisons and the half live to the end."""
    equal, half = t.alloc(g.n, BOOL, "comparison"), t.alloc(g.n, g.w, "half of the gradient")
    out = t.alloc(g.n, g.w, "gradient of a minimum")
    more = t.alloc(g.n, BOOL, "comparison")
    del equal, half, more
    return (out,)


@moves.moving(moves.masked, gradients.chosen)
def _where_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor, ...]:
    """torch.where of two tensors: the gradient, masked for each."""
    return tuple(t.alloc(g.n, g.w, "gradient, masked") for _ in node.ins)


def mlp(m: Machine, x: Tensor, block: MLP, rows: Any = None) -> Tensor:
    """A feed-forward block."""
    t = m.t
    if m.sequence:
        x = across.gathered(t, x, m.tensor, m.b != 1)
    if block.receptance is not None:
        from estimator.stack.rwkv import channel_mix

        return channel_mix(m, x, block)
    if not block.gated:
        up, down = block.linears
        x = linear(m, x, up, rows)
        moves.fused(t, "activation", 2 * x.n * x.w)
        if block.act == "xielu" and block.extras:
            x = xielu(m, x, block)
        else:
            x = bloom_gelu(t, x) if block.act == "bloom_gelu" else activation(t, x, block.act)
        x = ops.dropout(t, x) if m.drops.inner else x
        if block.cast:  # T5DenseActDense: to the width of wo.weight, which autocast then undoes
            x = ops.to(t, x, m.w)
        if block.norm is not None:
            x = norm(m, x, block.norm, rows)
        return linear(m, x, down, rows)
    if block.fused:
        both = linear(m, x, block.linears[0], rows)
        moves.fused(t, "activation", 3 * both.n // 2 * both.w)
        gate, up_part = ops.split(t, both, (both.n // 2, both.n // 2))
        del both
        if m.kernels.mlp:
            return linear(m, liger.gated(t, gate, up_part, copied=True), block.linears[1], rows)
        if block.act == "swiglu_oai":
            return linear(m, swiglu_oai(t, gate, up_part), block.linears[1], rows)
        up_part = ops.mul(t, up_part, activation(t, gate, block.act))
        return linear(m, up_part, block.linears[1], rows)
    gate_lin, up_lin, down = block.linears
    if block.clamped:
        gate = clamp(t, linear(m, x, gate_lin, rows), 1)
        up_part = clamp(t, linear(m, x, up_lin, rows))
        return linear(m, ops.mul(t, activation(t, gate, block.act), up_part, "gated"), down, rows)
    if m.kernels.mlp:
        gate = linear(m, x, gate_lin, rows)
        return linear(m, liger.gated(t, gate, linear(m, x, up_lin, rows)), down, rows)
    gate = linear(m, x, gate_lin, rows)
    if block.sparse:
        gate = cut_off(t, gate, m.rows if rows is None else rows)
    kept = [gate] if block.named else []
    gate = activation(t, gate, block.act)
    other = linear(m, x, up_lin, rows)
    inner = ops.mul(t, gate, other, "gated")
    if not kept:
        del gate, other
    moves.fused(t, "activation", 3 * inner.n * inner.w)
    inner = ops.dropout(t, inner) if m.drops.inner else inner
    if block.cast:
        inner = ops.to(t, inner, m.w)
    if block.norm is not None:
        inner = norm(m, inner, block.norm, rows)
    return linear(m, inner, down, rows)
