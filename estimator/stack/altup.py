"""AltUp: several copies of the stream, of which a layer computes one; the others are predicted from all before it, and
corrected by what it found (arXiv 2301.13310).

Source: transformers 5.17, models/gemma3n/modeling_gemma3n.py (Gemma3nTextAltUp, Gemma3nTextModel).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.families.base import Copies, SideChain
from estimator.stack import ops
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.norms import norm
from estimator.stack.shapes import outer
from estimator.stack.tape import F32, GradFn, Tape, Tensor


def _count(altup: SideChain) -> Any:
    return altup.parts_[1].d_out


def routed(m: Machine, x: Tensor, altup: SideChain) -> Tensor:
    """compute_router_modalities: a number for each copy, from a stream [b, s, d]."""
    t = m.t
    before, router = altup.parts_[:2]
    made = linear(m, ops.scale(t, norm(m, x, before)), router)
    return ops.to(t, ops.tanh(t, ops.to(t, made, F32)), x.w)


def predicted(m: Machine, x: Tensor, altup: SideChain) -> Tensor:
    """AltUp.predict: each copy and a mixture of all."""
    t, n = m.t, _count(altup)
    weights = linear(m, routed(m, ops.piece(t, x, x.n // n), altup), altup.parts_[2])
    made = ops.matmul(t, x, weights, x.n, n, "predicted copies")
    made = ops.add_into(t, made, x)
    return ops.to(t, ops.copy(t, made, "predicted copies, contiguous"), x.w)


def corrected(m: Machine, predictions: Tensor, activated: Tensor, altup: SideChain) -> Tensor:
    """AltUp.correct: each copy and a share of what the layer changed."""
    t, n = m.t, _count(altup)
    made = routed(m, activated, altup)
    innovation = ops.sub(t, activated, ops.piece(t, predictions, activated.n), "innovation")
    innovation = ops.repeat(t, innovation, n, "innovation of every copy")
    weights = ops.shift(t, linear(m, made, altup.parts_[3]))
    return ops.add_into(t, outer(t, innovation, weights, predictions.n, "corrected copies"), predictions)


def first_of(m: Machine, x: Tensor, altup: SideChain) -> Tensor:
    """scale_corrected_output: a copy of the first stream, scaled."""
    t = m.t
    first = ops.copy(t, ops.piece(t, x, x.n // _count(altup)), "first copy, cloned")
    return ops.mul(t, first, m.extra(altup.parts_[-1]), "first copy, scaled")


def added_to_others(t: Tape, x: Tensor, first: Tensor) -> Tensor:
    """``x[1:] += first``: written into x; autograd clones the gradient and the slice of it."""
    out = Tensor(x.n, x.w, x.st)
    if t.grad and (x.node is not None or first.node is not None):
        t.record(out, (x, first), _slice_bwd, None, (x.n, first.n))
    return out


def _slice_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """torch/csrc/autograd/functions/tensor.cpp, CopySlices."""
    n, one = node.extra
    whole = t.alloc(n, g.w, "gradient, cloned")
    held = t.alloc(n - one, g.w, "gradient of a slice, cloned")
    summed = None if node.ins[1] is None else t.alloc(one, g.w, "gradient, summed")
    del held
    return (whole, summed)


def _as_large(t: Tape, x: Tensor, size: Tensor, rows: Any) -> Tensor:
    """x * size / its own size, a number a row."""
    own = ops.unary(t, ops.unary(t, ops.mean(t, ops.power(t, x), rows), "maximum", "input"), "root", "result")
    x = ops.mul(t, x, size, "copy times a size")
    saved = (own.st, x.st) if own.node is not None else own.st
    return t.emit("copy, as large as the first", x.n, max(x.w, own.w), (x, own), _ratio_bwd, saved,
                  ((x.n, x.w), (own.n, own.w)))  # fmt: skip


def _ratio_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """grad / other; -grad * ((self / other) / other), summed."""
    ga = None if node.ins[0] is None else ops.reduced(t, t.alloc(g.n, g.w, "gradient of a ratio"), node.extra[0])
    if node.ins[1] is None:
        return (ga, None)
    held = [t.alloc(g.n, g.w, "backward temporary") for _ in range(3)]
    gb = ops.reduced(t, held.pop(), node.extra[1])
    del held
    return (ga, gb)


def opened(m: Machine, x: Tensor, beside: Sequence[Any], kept: list[Tensor]) -> Tensor:
    """The copies [n, b, s, d] of the embeddings where ``beside`` makes them; ``kept``: what the loop over the layers
    still names."""
    copies = next((part for part in beside if isinstance(part, Copies)), None)
    if copies is None:
        return x
    return _joined(m, [x] * (len(copies.linears) + 1), copies, kept)


def closed(m: Machine, x: Tensor, copies: Copies) -> Tensor:
    """The mean [b, s, d] of the copies, each led back through its matrix."""
    t, n = m.t, len(copies.linears) + 1
    return ops.mean(t, _joined(m, [ops.piece(t, x, x.n // n) for _ in range(n)], copies, []), x.n // n)


def _joined(m: Machine, streams: list[Tensor], copies: Copies, kept: list[Tensor]) -> Tensor:
    """The first stream, and each other through its matrix and made as large as the first, stacked."""
    t, rows = m.t, m.rows
    first = streams[0]
    size = ops.unary(t, ops.mean(t, ops.power(t, first), rows), "root", "input")
    kept.append(first)
    made = first
    for stream, matrix in zip(streams[1:], copies.linears, strict=True):
        made = linear(m, stream, matrix)
        kept.append(_as_large(t, ops.to(t, made, first.w), size, rows))
    out = ops.cat(t, kept[-len(streams) :], "copies of the stream")
    kept.append(made)
    return out
