"""Operations that sum, pad, mask and pair tensors, shared by the experts, the scans and the delta rule."""

from __future__ import annotations

from typing import Any

from estimator.stack import gradients, moves, ops, products
from estimator.stack.tape import BOOL, GradFn, Tape, Tensor


def masked(t: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """masked_fill: a copy; saves the mask."""
    return t.emit("masked", x.n, x.w, (x,), masked_bwd, mask.st)


@moves.moving(moves.masked, gradients.masked)
def masked_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(g.n, g.w, "gradient, masked"),)


def clamp(t: Tape, x: Tensor, bounds: int = 2) -> Tensor:
    """torch.clamp to one or two bounds: saves its input."""
    return t.emit("clamped", x.n, x.w, (x,), _clamp_bwd, x.st, bounds)


@moves.moving(backward=gradients.clamped)
def _clamp_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    masks = [t.alloc(g.n, BOOL, "clamp mask") for _ in range(node.extra)]
    out = t.alloc(g.n, g.w, "gradient")
    del masks
    return (out,)


def cumsum(t: Tape, x: Tensor) -> Tensor:
    """torch.cumsum: its gradient is flipped, summed and flipped back."""
    return t.emit("cumulative sum", x.n, x.w, (x,), _cumsum_bwd)


@moves.moving(moves.summed_along, gradients.summed_along)
def _cumsum_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    flipped = t.alloc(g.n, g.w, "gradient, flipped")
    summed = t.alloc(g.n, g.w, "gradient, summed")
    out = t.alloc(g.n, g.w, "gradient, flipped")
    del flipped, summed
    return (out,)


def spread(t: Tape, x: Tensor, n: Any) -> Tensor:
    """repeat_interleave: groups written out for every head, also where there are as many."""
    return t.emit("groups for every head", n, x.w, (x,), _spread_bwd, None, x.n)


@moves.moving(moves.gathered, gradients.regrouped)
def _spread_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(node.extra, g.w, "gradient, summed"),)


def padded(t: Tape, x: Tensor, n: Any) -> Tensor:
    """torch.nn.functional.pad: a copy, also where nothing is added."""
    return t.emit("padded", n, x.w, (x,), _padded_bwd, None, x.n)


@moves.moving(moves.padded, gradients.cut)
def _padded_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(node.extra, g.w, "gradient, cut"),)


def permuted(t: Tape, x: Tensor) -> Tensor:
    """A view with heads or channels before the tokens, or the tokens before those: so is its gradient."""
    out = Tensor(x.n, x.w, x.st)
    out.lay = moves.PERMUTED[x.lay]
    if t.grad and x.node is not None:
        t.record(out, (x,), _permuted_bwd)
    return out


@moves.moving(backward=gradients.permuted)
def _permuted_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (g,)


def total(t: Tape, x: Tensor, n: Any) -> Tensor:
    """x.sum(dim): the gradient is an expanded view."""
    return t.emit("sum", n, x.w, (x,), _total_bwd, None, x.n)


def outer(t: Tape, a: Tensor, b: Tensor, n: Any, what: str) -> Tensor:
    """a * b where both are broadcast to ``n`` results."""
    saved = (b.st if a.node is not None else None, a.st if b.node is not None else None)
    return t.emit(what, n, max(a.w, b.w), (a, b), ops.mul_bwd, saved, ((a.n, a.w), (b.n, b.w)))


def contracted(t: Tape, a: Tensor, b: Tensor, n: Any, k: Any, what: str, name: str) -> Tensor:
    """A batch of products written as a broadcast product and a sum over the ``k`` that are contracted."""
    made = outer(t, a, b, n * k, what)
    products.batched(t, made, a.n, b.n, k, name, n)
    return total(t, made, n)


@moves.moving(moves.reduced, gradients.expanded)
def _total_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    out = Tensor(node.extra, g.w, g.st)
    out.view = True
    return (out,)
