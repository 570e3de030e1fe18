"""What the backward formulas of operations read and write, where they are not one kernel a gradient.

Each is a rule for :func:`estimator.stack.moves.moving`: the node, the gradient that arrives, those that leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from estimator.stack.moves import (
    AFTER,
    ANEW,
    BROKEN,
    BY_HEADS,
    COLUMNS,
    PART_OF,
    PERMUTED,
    ROWS,
    SEEN_BY_HEADS,
    SPREAD,
    TURNED,
    awry,
    log,
    one,
)
from estimator.stack.moves import summed as total

if TYPE_CHECKING:
    from typing import Any

    from estimator.stack.tape import GradFn, Tape, Tensor


def summed(t: Tape, node: GradFn, g: Tensor, like: tuple[Any, int]) -> None:
    """A gradient summed to the shape, and converted to the width, of what was broadcast or promoted."""
    n, w = like
    if g.n != n:
        total(t, "gradient, summed", g, n)
    if g.w != w:
        if g.n == n:
            one(t, node, g, "gradient, converted", n * (g.w + w))
        else:
            log(t, "gradient, converted", moved=n * (g.w + w))


def sums(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of an addition: the gradient passes, summed where an input was broadcast."""
    for out, like in zip(outs, node.extra, strict=True):
        if out is not None:
            summed(t, node, g, like)


def differences(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a subtraction: the second one is negated first."""
    if outs[1] is not None:
        one(t, node, g, "gradient, negated", 2 * g.n * g.w)
        outs[1].lay = AFTER[g.lay]
    sums(t, node, g, outs)


def multiplied(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a product of two tensors: the gradient times the other one, then its sum."""
    sizes = node.extra
    for i, out in enumerate(outs):
        if out is None:
            continue
        n, w = sizes[1 - i]
        other = node.lays[1 - i]
        if n != g.n or w != g.w or g.lay in BROKEN or other != g.lay:
            log(t, "gradient of a product", strided=g.n)
        else:
            log(t, "gradient of a product", moved=g.n * (2 * g.w + w))
        lay, g.lay = g.lay, AFTER[other if g.lay == SPREAD else g.lay]  # so lies the product, which is then summed
        summed(t, node, g, sizes[i])
        out.lay, g.lay = g.lay if out.n == g.n else ANEW[node.lays[i]], lay


def spread(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a mean or a sum: the gradient of few numbers written to all."""
    for out in outs:
        if out is not None:
            log(t, "gradient, spread", strided=out.n)
            out.lay = ANEW[node.lays[0]]


def filled(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a slice: a tensor of zeros, into which the gradient is copied."""
    for out in outs:
        if out is not None:
            log(t, "gradient of a slice", 2, moved=out.n * out.w, strided=g.n)
            out.lay = ANEW[node.lays[0]]


def put_back(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of what was picked by an index: zeros, into which the gradient is put."""
    for out in outs:
        if out is not None:
            log(t, "gradient, put into zeros", 2, moved=out.n * out.w, strided=out.n)


def masked(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of masked_fill: the gradient is masked too."""
    for out in outs:
        if out is not None:
            log(t, "gradient, masked", strided=out.n)
            out.lay = ANEW[g.lay]


def chosen(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of where: the zero that stands for the others is written first."""
    log(t, "zero")
    masked(t, node, g, outs)


def least(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a minimum with a number: two comparisons, half of the gradient, and what is chosen and then masked."""
    log(t, "comparison", 2, moved=2 * g.n * (g.w + 1))
    log(t, "gradient", moved=2 * g.n * g.w)
    log(t, "gradient, masked", 2, strided=2 * g.n)


def clamped(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of clamp: each bound compared, both comparisons joined, and the gradient masked."""
    for _ in range(node.extra):
        log(t, "comparison", strided=g.n) if node.lays[0] in BROKEN else log(t, "comparison", moved=g.n * (g.w + 1))
    if node.extra > 1:
        log(t, "comparisons, joined", moved=3 * g.n)
    chosen(t, node, g, outs)


def expanded(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a sum: a view in which a number stands for many."""
    for out in outs:
        if out is not None:
            out.lay = g.lay if out.n == g.n else SPREAD


def permuted(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a view: the gradient is seen the other way round."""
    g.lay = PERMUTED[g.lay]


def cut(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of padding: what was added is cut off, in a copy."""
    for out in outs:
        if out is not None:
            log(t, "gradient, cut", strided=out.n)
            out.lay = AFTER[g.lay]


def summed_along(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a cumulative sum: flipped, summed, and flipped back."""
    for out in outs:
        if out is not None:
            broken = g.lay in BROKEN
            log(t, "gradient, summed backwards", 3, (2 if broken else 6) * g.n * g.w, 2 * g.n if broken else 0)
            out.lay = ANEW[g.lay]


def divided(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a quotient by sums: for them, two further divisions, a product and a sum."""
    if outs[0] is not None:
        log(t, "gradient of a quotient", strided=g.n)
    if outs[1] is not None:
        log(t, "gradient of a quotient's sums", 4, moved=5 * g.n * g.w, strided=2 * g.n)
        log(t, "gradient, summed", moved=(g.n + outs[1].n) * g.w)


def in_rows(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a view by heads: the gradient is copied where its rows are not whole."""
    for out in outs:
        if out is not None and g.lay != SEEN_BY_HEADS:
            log(t, "gradient, copied", strided=out.n)


def in_heads(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """The same of numbers seen in pairs: the gradient is copied where a head does not lie by itself."""
    for out in outs:
        if out is not None and g.lay != BY_HEADS:
            log(t, "gradient, copied", strided=out.n)
            out.lay = BY_HEADS


def written(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a tensor written in two parts (CopySlices): the whole is copied for each, each part is cloned, and zeros are
    put into the second one's place; the second part is summed where all heads share it."""
    n_first, n_second, n_shared, _ = node.extra
    whole, broken = (1, 1) if g.lay in BROKEN else (2, 0)
    log(t, "gradient of the parts", 6, (2 * whole * g.n + n_second) * g.w, broken * g.n + n_first + 2 * n_second)
    if outs[1] is not None and n_shared != n_second:
        log(t, "gradient, summed", moved=(n_second + n_shared) * g.w)


def complex_product(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a product of pairs with complex numbers: their conjugates are copied."""
    if outs[0] is not None:
        log(t, "gradient of a complex product", 2, strided=node.extra // 4 + g.n // 2)


def seen_again(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a copy into rows of what lay by heads: the gradient's rows are seen by heads."""
    if node.lays[0] == BY_HEADS and g.lay == ROWS:
        g.lay = SEEN_BY_HEADS


def transposed(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a number times what is seen transposed: the gradient is scaled, and seen the other way round."""
    for out in outs:
        if out is not None:
            log(t, "gradient", moved=2 * g.n * g.w)
            out.lay = TURNED


def factors(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a batch of products, beside its own: sequences and heads are one batch, for which a gradient that does not lie
    so is copied; then each is scaled."""
    _, turned, scaled = node.extra
    if not t.single and g.lay in BROKEN:
        log(t, "gradient, copied", strided=g.n)
    for out, lay in zip(outs, (BY_HEADS, TURNED if turned else BY_HEADS), strict=True):
        if out is None:
            continue
        if scaled:
            log(t, "gradient, scaled", moved=2 * out.n * out.w)
        out.lay = lay


def rejoined(t: Tape, node: GradFn, g: Any, outs: Sequence[Tensor | None]) -> None:
    """Of a split: the parts' gradients concatenated, as they lie where all lie with the tokens innermost."""
    parts = g if isinstance(g, list) else [g]
    columns = not t.single and all(part is not None and part.lay == COLUMNS for part in parts)
    for out in outs:
        if out is not None:
            log(t, "gradient, concatenated", strided=out.n)
            out.lay = COLUMNS if columns else ANEW[node.lays[0]]


def collected(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of what was spread: the gradient summed."""
    for out in outs:
        if out is not None:
            if node.lays[0] == ROWS and g.lay == SEEN_BY_HEADS:  # its heads were seen first after it was written
                g.lay = ROWS
            total(t, "gradient, summed", g, out.n)
            out.lay = ANEW[g.lay]


def regrouped(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """The same of rows whose groups were written out for every head."""
    for out in outs:
        if out is not None:
            total(t, "gradient, summed", g, out.n)


def through(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a pointwise function: the gradient and what was saved are read; with powers first (as many kernels as
    temporaries)."""
    powers, saves = node.extra
    kept = AFTER[node.lays[0]] if saves == "result" else node.lays[0]
    for out in outs:
        if out is None:
            continue
        if powers and kept in BROKEN:
            log(t, "gradient of a power", powers, strided=powers * g.n)
        elif powers:
            log(t, "gradient of a power", powers, moved=2 * powers * g.n * g.w)
        if kept in BROKEN or awry(node, g):
            log(t, "gradient of a function", strided=g.n)
        else:
            log(t, "gradient of a function", moved=3 * g.n * g.w)
        out.lay = AFTER[g.lay]


def biased(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of a linear layer, beside its products: a gradient that lies by heads is copied; the input's lies as the input,
    where that is a matrix transposed (mm_mat1_grad); the bias's is a sum."""
    if outs[0] is not None and node.lays[0] == COLUMNS:
        outs[0].lay = COLUMNS
    if g.lay == BY_HEADS or (g.lay in (TURNED, COLUMNS) and not t.single):
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


def unattended_rows(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Gradients that lie by tokens."""
    for out in outs:
        if out is not None:
            out.lay = SEEN_BY_HEADS


def unattended(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Gradients that lie as what they are of."""
    for out, lay in zip(outs, node.lays, strict=True):
        if out is not None:
            out.lay = lay


def of_cached(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of what a cache holds: the same numbers."""
    if outs[0] is not None:
        outs[0].lay = g.lay
