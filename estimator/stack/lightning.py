"""MiniMax's lightning attention: linear attention in blocks, a state of [head, head] carried from block to block.

The loop over the blocks is one node: what a block saves is held for all of them.
Source: transformers 5, models/minimax/modeling_minimax.py (MiniMaxLightningAttention).
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import StateSpace
from estimator.ops import ceil_div
from estimator.stack import ops
from estimator.stack.machine import Machine
from estimator.stack.nn import activation, linear
from estimator.stack.norms import norm
from estimator.stack.products import SCAN, log
from estimator.stack.recurrent import held_states, hold
from estimator.stack.tape import GradFn, Tape, Tensor


def lightning(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """MiniMaxLightningAttention.forward. x [b, s, d] -> [b, s, d]."""
    t, n = m.t, m.rows * s.inner
    both = activation(t, linear(m, x, s.linears[0]), s.sizes["act"])
    q, k, v = (ops.by_heads(t, i) for i in ops.split(t, both, (n, n, n)))
    held = held_states(m)
    if held is not None and held[0] is None:
        hold(m, 0, m.b * s.inner * s.sizes["head_dim"], x.w, "state of linear attention")
    size, heads = s.sizes["chunk"], m.b * s.sizes["heads"]
    saved = [q.st, k.st, v.st, t.alloc(heads * m.s * size, x.w, "scores of the blocks").st]
    out = t.emit("lightning attention", n, x.w, (q, k, v), _backward, saved, n)
    products(m, out, s)
    out = norm(m, ops.copy(t, out), s.norms[0])
    gate = ops.sigmoid(t, linear(m, x, s.linears[1]))
    return linear(m, ops.mul(t, gate, out, "gated heads"), s.linears[2])


def products(m: Machine, out: Tensor, s: StateSpace) -> None:
    """Scores and values within a block, what the carried state adds, and the state's own update; token by token where
    a state is there already."""
    d, at = s.sizes["head_dim"], s.linears[0].name.rpartition(".")[0] + ".scan"
    heads = m.b * s.sizes["heads"]
    if m.cache is not None and m.past != 0:
        for name, rows, k, n in (("update", d, 1, d), ("read", 1, d, d)):
            log(m.t, out, f"{at}.{name}", SCAN, rows, k, n, heads * m.s, operator="bmm")
        return
    size = s.sizes["chunk"]
    for count, rows in ((m.s // size, size), (ceil_div(m.s, size) - m.s // size, m.s % size)):
        if count == 0:
            continue
        for name, a, k, n in (("scores", rows, d, rows), ("values", rows, rows, d), ("read", rows, d, d),
                              ("update", d, rows, d)):  # fmt: skip
            log(m.t, out, f"{at}.{name}", SCAN, a, k, n, heads * count, operator="bmm", grads=(0, 1))


def _backward(t: Tape, node: GradFn, g: Tensor) -> tuple[Any, ...]:
    outs = [t.alloc(node.extra, g.w, f"gradient of {name}") for name in "qkv"]
    return tuple(o if p is not None else None for o, p in zip(outs, node.ins, strict=True))
