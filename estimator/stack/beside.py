"""What Gemma 3n and 4 compute beside the stack's two branches: an input of each layer's own, and LAuReL.

Source: transformers 5, models/gemma3n and models/gemma4, modeling_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Architecture, Linear, Lookup, Norm, SideChain
from estimator.stack import ops
from estimator.stack.machine import Machine
from estimator.stack.nn import activation, linear
from estimator.stack.norms import norm
from estimator.stack.tape import Tensor


def inputs_of_layers(m: Machine, x: Tensor, arch: Architecture) -> list[Tensor]:
    """What the loop over the layers keeps: the layers' own inputs, in one tensor, and whatever else is projected."""
    t = m.t
    kept: list[Tensor] = []
    made: Tensor | None = None
    for part in arch.beside:
        if isinstance(part, Lookup):
            made = ops.scale(t, ops.embedding(t, m.table(part), m.rows * part.width), "inputs of the layers")
        elif isinstance(part, Linear):
            kept.append(linear(m, x, part))
        elif isinstance(part, Norm) and made is not None and kept:
            own = norm(m, ops.scale(t, kept.pop(), "inputs of the layers"), part, made.n // part.width)
            kept.append(ops.scale(t, ops.add(t, own, made, "inputs of the layers"), "inputs of the layers"))
            made = None
    return kept


def chain(m: Machine, x: Tensor, block: SideChain, at: Any) -> Tensor:
    """x and what one chain makes of it."""
    return ops.add(m.t, x, branch(m, x, block, at), "residual")


def branch(m: Machine, x: Tensor, block: SideChain, at: Any) -> Tensor:
    """What one chain makes of x, [b, s, d]."""
    t, y, first = m.t, x, True
    for part in block.parts():
        if isinstance(part, Norm):
            y = norm(m, y, part)
        elif isinstance(part, Linear):
            y = linear(m, y, part)
            if first and block.act:
                y = activation(t, y, block.act)
            if first and block.scaled and at.get("beside"):
                y = ops.mul(t, y, ops.piece(t, at["beside"][0], y.n), "scaled by the layer's input")
            first = False
    return y
