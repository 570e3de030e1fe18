"""What recurrent mixers share: the short convolution, the states that a cache holds, repeated allocations."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Extra, StateSpace
from estimator.stack import moves, ops, products
from estimator.stack.blocks import block_bytes
from estimator.stack.machine import Machine
from estimator.stack.nn import activation
from estimator.stack.tape import F32, Allocation, GradFn, Param, Tape, Tensor


class Blocks(Allocation):
    """``count`` allocations of the same size that come and go together."""

    __slots__ = ()

    def __init__(self, tape: Tape, nbytes: Any, what: tuple[str, str], count: Any) -> None:
        self.tape, self.record = tape, (block_bytes(nbytes) * count, what)
        tape.log.append((1, self.record))


def many(t: Tape, count: Any, n: Any, w: int, what: str) -> Blocks:
    """``count`` tensors of ``n`` elements."""
    return Blocks(t, n * w, (t.where, what), count)


def held_states(m: Machine) -> list[Any] | None:
    """This layer's entry in the cache: the convolution's state, the recurrent state, times, and 0 as nothing grows."""
    if m.cache is None:
        return None
    return m.cache.setdefault((m.layer_key, "states"), [None, None, m.t.times, 0, 0])


def hold(m: Machine, which: int, n: Any, w: int, what: str, apart: bool = False) -> None:
    """Put a state of ``n`` numbers into this layer's entry in the cache, where there is one: zeros, into which it is
    copied. ``which``: its place; ``apart``: what is copied does not lie so."""
    held, t = held_states(m), m.t
    if held is not None:
        where, t.where = t.where, "KV cache"
        held[which] = t.alloc(n, w, what)
        moves.log(t, "state, zeros", moved=n * w)
        moves.log(t, "state, copied", strided=n) if apart else moves.log(t, "state, copied", moved=2 * n * w)
        t.where = where


def convolve(m: Machine, x: Tensor, s: StateSpace, weights: tuple[Extra, ...]) -> Tensor:
    """causal_conv1d_fn, or causal_conv1d_update for the next token: a depthwise convolution and its activation.

    ATen copies an input that is not contiguous before a one-dimensional convolution, forward and backward.
    """
    t = m.t
    weight = m.extra(weights[0])
    bias = m.extra(weights[1]) if len(weights) > 1 else None
    held = held_states(m)
    reach = s.conv_kernel - 1
    w = x.w
    if held is not None and m.past != 0:
        window = ops.to(t, t.alloc(m.b * s.conv_width * (s.conv_kernel + m.s), w, "window of tokens"), m.w)
        out = t.alloc(m.b * s.conv_width * (m.s + 1), weight.w, "convolution")
        log_convolution(m, out, s, weight)
        del x, window
        return _activated(m, out, s)
    hold(m, 0, m.b * s.conv_width * s.sizes.get("kept", s.conv_kernel), w, "last inputs of the convolution", True)
    out = _convolution(m, ops.to(t, x, weight.w), weight, bias, m.b * s.conv_width * (m.s + reach))
    log_convolution(m, out, s, weight)
    out = ops.piece(t, out, m.rows * s.conv_width)
    if s.sizes["act"]:
        out = activation(t, out, s.sizes["act"])
    return ops.to(t, out, w)


def log_convolution(m: Machine, out: Tensor, s: StateSpace, weight: Param) -> None:
    """FlopCounterMode's convolution_backward ignores the groups: a weight's gradient counts the channels once more."""
    if m.t.work is None:
        return
    width, count = s.conv_width, m.b * s.conv_width
    outputs = out.n // count
    products.log(
        m.t, out, weight.name.removesuffix(".weight"), products.CONVOLUTION, outputs, s.conv_kernel, 1, count,
        operator="conv", weight=s.conv_kernel * width,
        excess=products.MULTIPLY_ADD * count * outputs * s.conv_kernel * (width - 1),
    )  # fmt: skip


def minus_exp(m: Machine, extra: Extra) -> Tensor:
    """A = -exp(A_log.float())."""
    t = m.t
    return ops.neg(t, ops.unary(t, ops.to(t, m.extra(extra), F32), "exp", "result"))


def _activated(m: Machine, out: Tensor, s: StateSpace) -> Tensor:
    out = out if out.n == m.rows * s.conv_width else Tensor(m.rows * s.conv_width, out.w, out.st)
    return activation(m.t, out, s.sizes["act"]) if s.sizes["act"] else out


def _convolution(m: Machine, x: Tensor, weight: Param, bias: Param | None, n: Any) -> Tensor:
    t = m.t
    a, w = t.autocast(x), t.autocast(weight)
    copied = t.alloc(a.n, a.w, "input of the convolution, contiguous")
    ins = (a, w) if bias is None else (a, w, t.autocast(bias))
    saved = (a.st, w.st)  # one formula gives all gradients: it saves both, whichever is wanted
    out = t.emit("convolution", n, w.w, ins, _convolution_bwd, saved, tuple(i.n for i in ins))
    del copied
    return out


def _convolved(t: Tape, what: str, out: Tensor, ins: Any) -> None:
    """A product, which lies channel by channel."""
    out.lay = moves.BY_HEADS


@moves.moving(_convolved, moves.nothing)
def _convolution_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    copied = t.alloc(node.extra[0], g.w, "input of the convolution, contiguous")
    outs = [
        None if p is None else t.alloc(n, g.w, "gradient of the convolution")
        for p, n in zip(node.ins, node.extra, strict=True)
    ]
    del copied
    return tuple(outs)
