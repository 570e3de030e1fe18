"""RWKV 4's two branches: each reads a token mixed with the one before, channel by channel.

Source: transformers 5.24, models/rwkv/modeling_rwkv.py (with its CUDA kernel, RwkvLinearAttention).
"""

from __future__ import annotations

from estimator.families.base import MLP, Extra, StateSpace
from estimator.stack import ops
from estimator.stack.machine import Machine
from estimator.stack.nn import activation, linear
from estimator.stack.recurrent import hold
from estimator.stack.shapes import padded
from estimator.stack.tape import F32, GradFn, Tape, Tensor


def shifted(m: Machine, x: Tensor) -> Tensor:
    """The token before each: a padded copy, or what the state holds."""
    return padded(m.t, x, x.n)


def mixed(m: Machine, x: Tensor, before: Tensor, weight: Extra) -> Tensor:
    """x * w + before * (1 - w)."""
    t, w = m.t, m.extra(weight)
    return ops.add(t, ops.mul(t, x, w), ops.mul(t, before, ops.shift(t, ops.neg(t, w))), "mixed with the token before")


def time_mix(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """RwkvSelfAttention.forward. x [b, s, d] -> [b, s, d]."""
    t = m.t
    decay, first, *mixes = s.extras
    before = shifted(m, x)
    key, value, gate = (mixed(m, x, before, weight) for weight in mixes)
    key, value = linear(m, key, s.linears[0]), linear(m, value, s.linears[1])
    gate = ops.sigmoid(t, linear(m, gate, s.linears[2]))
    hold(m, 0, m.b * s.conv_width * s.conv_kernel, x.w, "last inputs of both branches")
    hold(m, 1, m.b * s.conv_width * s.state, F32, "state of the recurrence")
    falls = ops.neg(t, ops.unary(t, ops.to(t, m.extra(decay), F32), "exp", "result"))
    bonus = m.extra(first)
    saved = [falls.st, bonus.st, key.st, value.st]
    out = t.emit("recurrence", key.n, key.w, (key, value, falls, bonus), _recurrence_bwd, saved,
                 tuple((i.n, i.w) for i in (key, value, falls, bonus)))  # fmt: skip
    saved.append(out.st)
    return linear(m, ops.mul(t, gate, out, "gated recurrence"), s.linears[3])


def _recurrence_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """The kernel sums the gradients of decay and bonus over the sequences afterwards."""
    return tuple(
        None if p is None else t.alloc(n, w, "gradient of the recurrence")
        for p, (n, w) in zip(node.ins, node.extra, strict=True)
    )


def channel_mix(m: Machine, x: Tensor, block: MLP) -> Tensor:
    """RwkvFeedForward.forward."""
    t = m.t
    assert block.receptance is not None
    before = shifted(m, x)
    key, gate = (mixed(m, x, before, weight) for weight in block.extras)
    value = linear(m, activation(t, linear(m, key, block.linears[0]), block.act), block.linears[1])
    return ops.mul(t, ops.sigmoid(t, linear(m, gate, block.receptance)), value, "gated MLP")
