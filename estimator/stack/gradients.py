"""What the backward formulas of operations read and write, where they are not one kernel a gradient.

Each is a rule for :func:`estimator.stack.moves.moving`: the node, the gradient that arrives, those that leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from estimator.stack.moves import AFTER, BROKEN, BY_HEADS, PART_OF, ROWS, SEEN_BY_HEADS, log, one

if TYPE_CHECKING:
    from typing import Any

    from estimator.stack.tape import GradFn, Tape, Tensor


def summed(t: Tape, node: GradFn, g: Tensor, like: tuple[Any, int]) -> None:
    """A gradient summed to the shape, and converted to the width, of what was broadcast or promoted."""
    n, w = like
    if g.n != n:
        one(t, node, g, "gradient, summed", (g.n + n) * g.w)
    if g.w != w:
        log(t, "gradient, converted", moved=n * (g.w + w))


def sums(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of an addition: the gradient passes, summed where an input was broadcast."""
    for out, like in zip(outs, node.extra, strict=True):
        if out is not None:
            summed(t, node, g, like)


def multiplied(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a product of two tensors: the gradient times the other one, then its sum."""
    sizes = node.extra
    for i, out in enumerate(outs):
        if out is None:
            continue
        n, w = sizes[1 - i]
        other = node.lays[1 - i]
        if n != g.n or g.lay in BROKEN or other != g.lay:
            log(t, "gradient of a product", strided=g.n)
        else:
            log(t, "gradient of a product", moved=g.n * (2 * g.w + w))
        summed(t, node, g, sizes[i])
        out.lay = AFTER[g.lay] if out.n == g.n else ROWS


def spread(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a mean or a sum: the gradient of few numbers written to all."""
    for out in outs:
        if out is not None:
            log(t, "gradient, spread", strided=out.n)


def filled(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a slice: a tensor of zeros, into which the gradient is copied."""
    for out in outs:
        if out is not None:
            log(t, "gradient of a slice", 2, moved=out.n * out.w, strided=g.n)
            out.lay = BY_HEADS if g.lay >= SEEN_BY_HEADS else ROWS


def rejoined(t: Tape, node: GradFn, g: Any, outs: Sequence[Tensor | None]) -> None:
    """Of a split: the parts' gradients concatenated."""
    for out in outs:
        if out is not None:
            log(t, "gradient, concatenated", strided=out.n)


def collected(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of what was spread: the gradient summed."""
    for out in outs:
        if out is not None:
            log(t, "gradient, summed", moved=g.n * g.w + out.n * out.w)
            out.lay = BY_HEADS if g.lay >= SEEN_BY_HEADS else ROWS


def through(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a pointwise function: the gradient and what was saved are read; with powers first (``node.extra`` kernels)."""
    for out in outs:
        if out is not None:
            more = node.extra
            log(t, "gradient of a function", 1 + more, moved=(3 + 2 * more) * g.n * g.w)
            out.lay = AFTER[g.lay]


def biased(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a linear layer, beside its products: a gradient that lies by heads is copied; the bias's is a sum."""
    if g.lay == BY_HEADS:
        log(t, "gradient, copied", strided=g.n)
    if len(outs) > 2 and outs[2] is not None:
        log(t, "gradient of the bias", moved=g.n * g.w + outs[2].n * outs[2].w)


def sums_of_one(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a conversion, or of a number added: the gradient is converted back."""
    out = outs[0]
    if out is not None and out.st is not g.st:
        one(t, node, g, "gradient, converted", g.n * (g.w + out.w))
        out.lay = AFTER[g.lay]


def parted(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a concatenation: the parts are views."""
    for out in outs:
        if out is not None:
            out.lay = PART_OF[g.lay]


def through_plain(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a softmax: the gradient and the result are read."""
    out = outs[0]
    if out is not None:
        log(t, "gradient of the softmax", moved=g.n * (2 * g.w + out.w))
        out.lay = AFTER[g.lay]


def unnormed(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Its backward kernels: of the input, and of the weights."""
    first, *weights = outs
    if first is not None:
        log(t, "gradient of the norm", moved=3 * g.n * g.w)
    if any(w is not None for w in weights):
        log(t, "gradient of the norm's weights", moved=2 * g.n * g.w)


def zeroed(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of numbers picked: zeros, into which few are put."""
    for out in outs:
        if out is not None:
            log(t, "gradient, put into zeros", moved=out.n * out.w)


def unattended(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Gradients that lie as what they are of."""
    for out, lay in zip(outs, node.lays, strict=True):
        if out is not None:
            out.lay = lay
