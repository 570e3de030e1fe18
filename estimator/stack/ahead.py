"""The transformer block that Zamba 2's hybrid layers run before their mixer, with weights that several of them share.

Source: transformers 5.24, models/zamba2/modeling_zamba2.py (Zamba2HybridLayer, Zamba2AttentionDecoderLayer).
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Linear
from estimator.families.feeds import Ahead
from estimator.stack import ops
from estimator.stack.attention import attend, cached, rotate
from estimator.stack.machine import Machine
from estimator.stack.nn import activation, linear
from estimator.stack.norms import norm
from estimator.stack.tape import Tensor


def shared_block(m: Machine, x: Tensor, block: Ahead, at: Any) -> Tensor:
    """x [b, s, d] -> [b, s, d]: attention over the stream and the embeddings side by side, an MLP, a matrix."""
    t = m.t
    x = norm(m, ops.cat(t, (x, at["first"]), "stream and embeddings"), block.norms[0])
    a, own = block.attention, block.pairs[:-1]
    with t.at("attention", a):
        parts = [linear(m, x, p) for p in a.projections]
        if own:
            parts = [ops.add(t, y, low_rank(m, x, pair), "with low rank") for y, pair in zip(parts, own, strict=True)]
        q, k, v = parts
        del parts
        if a.position == "rope":
            cos, sin = at["rope"](m, a)
            q, k = rotate(t, q, cos, sin), rotate(t, k, cos, sin)
        k, v = cached(m, a, k, v)
        x = linear(m, attend(m, q, k, v, a, at["masks"](m, a)), a.out)
    x = norm(m, x, block.norms[1])
    with t.at("MLP"):
        both, down = block.mlp.linears
        made = ops.add(t, linear(m, x, both), low_rank(m, x, block.pairs[-1]), "with low rank")
        gate, up = ops.split(t, made, (made.n // 2, made.n // 2))
        x = linear(m, ops.mul(t, activation(t, gate, block.mlp.act), up, "gated"), down)
        return linear(m, x, block.out)


def low_rank(m: Machine, x: Tensor, pair: tuple[Linear, Linear]) -> Tensor:
    """Two matrices, one after the other."""
    return linear(m, linear(m, x, pair[0]), pair[1])
