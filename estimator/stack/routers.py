"""Routers whose logits the caller holds. DeepSeek-V2's, V3's and GLM's score in fp32 throughout, so that the routed
tokens are weighted, and summed, in fp32; LFM2's and DeepSeek-V4's score in the model's width.

Each returns the logits, the weights [rows * k] and the chosen experts [rows * k].
Source: transformers 5, DeepseekV2TopkRouter, DeepseekV3TopkRouter, Glm4MoeTopkRouter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.families.base import MoE
from estimator.stack import gradients, moves, ops, products
from estimator.stack.machine import Machine
from estimator.stack.nn import linear, product
from estimator.stack.parametrised import delta, with_delta
from estimator.stack.shapes import masked, total
from estimator.stack.tape import BOOL, F32, I64, GradFn, Tape, Tensor

Routed = tuple[Tensor, Tensor, Tensor]


def logits_fp32(m: Machine, x: Tensor, block: MoE) -> Tensor:
    """F.linear of fp32 copies of the input and of the router's weight."""
    t = m.t
    name = block.router[0].name.removesuffix(".weight")
    bare, _ = m.weight(block.router[0])
    weight = with_delta(m, bare, delta(m, name, bare.n, bare))
    return product(
        t, ops.to(t, x, F32), ops.to(t, weight, F32), None, m.rows * (block.num + block.idle), "router logits", False,
        name, products.ROUTER, m.rows,
    )  # fmt: skip


def softmax_fp32(m: Machine, x: Tensor, block: MoE) -> Routed:
    """DeepSeek-V2: softmax over all experts, the best k, scaled."""
    t = m.t
    logits = logits_fp32(m, x, block)
    scores = ops.softmax(t, logits, F32)
    weights, index = best(m, scores, block)
    return logits, ops.scale(t, weights, "routing weights"), index


def softmax_biased(m: Machine, x: Tensor, block: MoE) -> Routed:
    """ERNIE 4.5: softmax in fp32, the choice is made on biased scores; the weights in the width of the input."""
    t = m.t
    logits = logits_fp32(m, x, block)
    scores = ops.softmax(t, logits, F32)
    summed = t.alloc(scores.n, F32, "biased scores")
    moves.log(t, "scores with bias", strided=scores.n)
    moves.log(t, "chosen experts", moved=scores.n * F32 + m.rows * block.per_token * (F32 + I64))
    index = t.alloc(m.rows * block.per_token, I64, "chosen experts")
    del summed
    weights = t.emit("routing weights", index.n, F32, (scores,), _gathered_bwd, index.st, scores.n)
    return logits, ops.to(t, normalised(t, weights, m.rows, True), x.w), index


def sigmoid_groups(m: Machine, x: Tensor, block: MoE) -> Routed:
    """DeepSeek-V3 and GLM-4.5: sigmoid scores; the choice is made on biased scores within the best groups."""
    t = m.t
    logits = logits_fp32(m, x, block)
    scores = ops.sigmoid(t, logits)
    biased = t.alloc(scores.n, F32, "biased scores")
    keep = t.alloc(scores.n, F32, "group mask")
    drop = t.alloc(scores.n, BOOL, "group mask")
    choice = t.alloc(scores.n, F32, "scores of the best groups")
    del biased, drop
    log_groups(m, scores.n, block)
    index = t.alloc(m.rows * block.per_token, I64, "chosen experts")
    weights = t.emit("routing weights", index.n, scores.w, (scores,), _gathered_bwd, index.st, scores.n)
    del keep, choice
    if block.normed:
        weights = normalised(t, weights, m.rows, True)
    return logits, ops.scale(t, weights, "routing weights"), index


def normalised(t: Tape, x: Tensor, rows: Any, shifted: bool = False) -> Tensor:
    """x /= x.sum(-1): in place, but autograd keeps a copy of what was divided. ``shifted``: a number is added first."""
    sums = total(t, x, rows)
    sums = ops.shift(t, sums) if shifted else sums
    if t.grad and x.node is not None:
        moves.log(t, "routing weights, copied", moved=2 * x.n * x.w)
    return t.emit("routing weights", x.n, x.w, (x, sums), _divided_bwd, (sums.st, x.st), rows)


@moves.moving(backward=gradients.divided)
def _divided_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    outs = [None if p is None else t.alloc(g.n, g.w, "gradient of a quotient") for p in node.ins]
    if outs[1] is not None:
        outs[1] = t.alloc(node.extra, g.w, "gradient, summed")
    return tuple(outs)


def log_groups(m: Machine, scores: Any, block: MoE) -> None:
    """Kernels of the choice: scores with their bias, the two best of each group and their sum, the best groups, a mask
    of them written out, the scores masked, the best of those."""
    t, (groups, kept) = m.t, block.groups
    n = m.rows * groups
    moves.log(t, "scores with bias", strided=scores)
    moves.log(t, "groups' scores", 2, scores * F32 + 2 * n * (F32 + I64) + (2 * n + n) * F32)
    moves.log(t, "best groups", moved=n * F32 + m.rows * kept * (F32 + I64))
    moves.log(t, "mask of the groups", 2, n * F32, n)
    if groups == 1:  # a view of the groups'
        moves.log(t, "mask of the experts", strided=scores)
    else:
        moves.log(t, "mask of the experts", 2, scores * (F32 + 1), scores)
    moves.log(t, "mask of the others", moved=2 * scores)
    moves.log(t, "scores of the best groups", strided=scores)
    moves.log(t, "chosen experts", moved=scores * F32 + m.rows * block.per_token * (F32 + I64))


@moves.moving(moves.gathered, gradients.put_back)
def _gathered_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(node.extra, g.w, "gradient of the choice"),)


def best(m: Machine, scores: Tensor, block: MoE) -> tuple[Tensor, Tensor]:
    """torch.topk: the gradient is scattered into zeros."""
    index = m.t.alloc(m.rows * block.per_token, I64, "chosen experts")
    return m.t.emit("routing weights", index.n, scores.w, (scores,), _scatter_bwd, index.st, scores.n), index


def chosen_of(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Every score is read; values and their places are written."""
    moves.log(t, what, moved=ins[0].n * ins[0].w + out.n * (out.w + I64))


@moves.moving(chosen_of, gradients.put_back)
def _scatter_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(node.extra, g.w, "gradient of the choice"),)


def biased(m: Machine, x: Tensor, block: MoE) -> Routed:
    """DeepSeek-V4: the square root of softplus in the model's width; the choice is made on biased scores."""
    t = m.t
    logits, scores = scored(m, x, block)
    summed = t.alloc(scores.n, F32, "biased scores")
    del summed
    weights, index = best(m, scores, block)
    return logits, normed(m, weights), index


def sigmoid(m: Machine, x: Tensor, block: MoE) -> Routed:
    """LFM2: sigmoid in the model's width; the choice is made on biased scores."""
    logits = linear(m, x, block.router[0])
    scores = ops.sigmoid(m.t, logits)
    summed = m.t.alloc(scores.n, F32, "biased scores")
    weights, index = best(m, scores, block)
    del summed
    return logits, normed(m, weights), index


def looked_up(m: Machine, x: Tensor, block: MoE) -> Routed:
    """DeepSeek-V4's first layers: a table says the experts of each token, whose scores weigh them."""
    logits, scores = scored(m, x, block)
    weights, index = best(m, scores, block)
    return logits, normed(m, weights), index


def scored(m: Machine, x: Tensor, block: MoE) -> tuple[Tensor, Tensor]:
    """Logits and the square root of their softplus."""
    t = m.t
    logits = linear(m, x, block.router[0])
    return logits, ops.unary(t, ops.unary(t, logits, "softplus", "input"), "scores", "result")


def normed(m: Machine, weights: Tensor) -> Tensor:
    """Divided by their sum, and scaled."""
    t = m.t
    sums = ops.shift(t, total(t, weights, m.rows))
    return ops.scale(t, ops.mul(t, weights, sums, "routing weights"), "routing weights")


def sparse_mixer(m: Machine, x: Tensor, block: MoE) -> Routed:
    """Phi-3.5-MoE: one expert after the other, each weighed among those whose scores lie near the best of what is
    left; in training it is drawn, and a function of its own gives the gradient (sparsemixer, PhimoeMultiplier)."""
    t, rows = m.t, m.rows
    scores = linear(m, x, block.router[0], None, products.ROUTER)
    weights, first = drawn(m, scores, scores)
    barred = t.alloc(scores.n, scores.w, "scores without the first")
    moves.log(t, "scores without the first", strided=scores.n)
    second_weights, second = drawn(m, scores, barred, 2)
    index = t.alloc(2 * rows, I64, "chosen experts")
    moves.log(t, "chosen experts", strided=index.n)
    del first, second
    return scores, ops.cat(t, (weights, second_weights), "routing weights"), index


def drawn(m: Machine, scores: Tensor, seen: Tensor, drawings: int = 1) -> tuple[Tensor, Tensor]:
    """The weight [rows] of the expert that is drawn (in training) or best of ``seen``, and its number."""
    t, n, rows, w = m.t, scores.n, m.rows, scores.w
    best, place = _maxima(t, n, rows, w)
    ratio = t.alloc(n, w, "distance from the best")
    moves.log(t, "sizes and distances", 3, moved=2 * n * w, strided=2 * n)
    moves.log(t, "distances, divided", moved=3 * n * w)
    far = t.alloc(n, BOOL, "experts too far")
    moves.log(t, "experts too far", moved=n * (w + 1))
    del ratio, best
    near = masked(t, Tensor(n, w, seen.st), far)
    if m.training:
        noise = t.alloc(n, w, "noise")
        moves.log(t, "noise, added", 3, moved=6 * n * w)
        _, place = _maxima(t, n, rows, w)
        del noise
    gates = ops.softmax(t, near, F32 if t.amp else None)
    w = gates.w
    weight = t.emit("routing weights", rows, w, (gates,), _gathered_bwd, place.st, n)
    if not m.training:
        return weight, place
    _maxima(t, n, rows, w)
    moves.log(t, "halves of the step", 4 + drawings, moved=rows * (2 * I64 + (drawings + 1) * w + 10))
    if w != F32:
        moves.log(t, "halves of the step, converted", moved=rows * (F32 + w))
    saved = (weight.st, place.st, gates.st, far.st, place.st)
    return t.emit("routing weights", rows, w, (scores,), _drawn_bwd, saved, (n, scores.w)), place


def _maxima(t: Tape, n: Any, rows: Any, w: int) -> tuple[Tensor, Tensor]:
    """x.max(-1): values and places."""
    moves.log(t, "row maxima", moved=n * w + rows * (w + I64))
    return t.alloc(rows, w, "row maxima"), t.alloc(rows, I64, "row maxima")


def _halved(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """The weight times what says which half of the step it was drawn for."""
    moves.log(t, what, moved=3 * out.n * out.w)


def _of_drawn(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of PhimoeMultiplier: the gradient times the weight, negated, times all weights, and put in its place."""
    n, _ = node.extra
    moves.log(t, "gradient of the drawn", 4, moved=2 * g.n * g.w, strided=g.n + 2 * n)


@moves.moving(_halved, _of_drawn)
def _drawn_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    n, w = node.extra
    out = t.alloc(n, g.w, "gradient of the choice")
    return (out if g.w == w else t.alloc(n, w, "gradient, converted"),)


# MoE.routing
ROUTERS = {
    "softmax_fp32": softmax_fp32, "sigmoid": sigmoid, "sigmoid_groups": sigmoid_groups, "biased": biased,
    "looked_up": looked_up, "softmax_biased": softmax_biased, "sparse_mixer": sparse_mixer,
}  # fmt: skip
