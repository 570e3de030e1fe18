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
from estimator.stack.tape import GradFn, Tape, Tensor


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
