"""What DTensors exchange in a step, and the buffers that it takes: torch's functional collectives are out of place.

An all-reduce clones what it reduces. What is scattered along another dimension than the first is put in order before,
what is gathered so is put in order after, unless its parts lie side by side (one sequence). Sources (2.11):
torch/distributed/_functional_collectives.py, torch/distributed/tensor/placement_types.py.
"""

from __future__ import annotations

from typing import Any

from estimator.ops import exact_div
from estimator.stack import moves
from estimator.stack.tape import BOOL, F32, I64, GradFn, Tape, Tensor


def entered(t: Tape, x: Tensor) -> Tensor:
    """DTensor.from_local of what every GPU has: a view, whose partial gradients are summed."""
    out = Tensor(x.n, x.w, x.st)
    if t.grad and x.node is not None:
        t.record(out, (x,), _summed_bwd)
    return out


def _summed_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(g.n, g.w, "gradient, all-reduced"),)


def summed(t: Tape, x: Tensor) -> Tensor:
    """Partial sums to whole ones: the gradient passes."""
    return t.emit("output, all-reduced", x.n, x.w, (x,), _pass)


def _pass(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (g,)


def gathered(t: Tape, x: Tensor, ways: Any, copies: bool, what: str = "gathered input") -> Tensor:
    """The parts of all GPUs as one; the gradient is put in order, summed and scattered.

    copies: the parts do not lie side by side
    """
    flat = t.alloc(x.n * ways, x.w, what) if copies else None
    out = t.emit(what, x.n * ways, x.w, (x,), _gathered_bwd, None, ways)
    del flat
    return out


def _gathered_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    flat = t.alloc(g.n, g.w, "gradient, in parts")
    out = t.alloc(exact_div(g.n, node.extra), g.w, "gradient, scattered")
    del flat
    return (out,)


def whole(t: Tape, x: Tensor, ways: Any, what: str) -> Tensor:
    """The words (or other outputs) of all GPUs; the gradient is cut."""
    flat = t.alloc(x.n * ways, x.w, f"gathered {what}")
    out = t.emit(what, x.n * ways, x.w, (x,), _cut_bwd, None, ways)
    del flat
    return out


def _cut_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(exact_div(g.n, node.extra), g.w, "gradient of this GPU's part"),)


def cut(t: Tape, x: Tensor, ways: Any) -> Tensor:
    """This GPU's part of what every GPU has whole, along its last dimension; the gradient is gathered."""
    return t.emit("input, cut", exact_div(x.n, ways), x.w, (x,), _joined_bwd, None, ways)


def _joined_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    flat = t.alloc(g.n * node.extra, g.w, "gradient, gathered")
    out = t.alloc(g.n * node.extra, g.w, "gradient, put together")
    del flat
    return (out,)


def scattered(t: Tape, x: Tensor, ways: Any, copies: bool) -> Tensor:
    """Partial sums to each GPU's part of the whole ones; the gradient is gathered."""
    flat = t.alloc(x.n, x.w, "output, in parts")
    out = t.emit("output, scattered", exact_div(x.n, ways), x.w, (x,), _scattered_bwd, None, (ways, copies))
    del flat
    return out


def _scattered_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    ways, copies = node.extra
    flat = t.alloc(g.n * ways, g.w, "gradient, gathered") if copies else None
    out = t.alloc(g.n * ways, g.w, "gradient, gathered")
    del flat
    return (out,)


def embedding(t: Tape, table: Tensor, n: Any, ways: Any, tied: bool) -> Tensor:
    """Rows of a table cut by words, summed and scattered over tokens.

    The gradient of a GPU's tokens is one of all words (Partial); with the output matrix's it is scattered at once, else
    as late as in the optimizer's step.
    """
    own = t.alloc(n, table.w, "embedding of these words")
    flat = t.alloc(n, table.w, "output, in parts")
    out = t.emit("embedding", exact_div(n, ways), table.w, (table,), _embedding_bwd, None, (table.n, ways, tied))
    del own, flat
    return out


@moves.moving(moves.looked_up)
def _embedding_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    n, ways, tied = node.extra
    whole = t.alloc(n * ways, g.w, "gradient of all words")
    return (t.alloc(n, g.w, "gradient of the table") if tied else whole,)


@moves.moving(moves.nothing)
def _parallel_nll_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """zeros with -1 at the labels, exp(log-softmax), their sum, times the loss's gradient; log-softmax's own is it."""
    n = node.extra
    zeros = t.alloc(n, F32, "labels in zeros")
    exp = t.alloc(n, F32, "probabilities")
    added = t.alloc(n, F32, "probabilities less labels")
    del exp
    out = t.alloc(n, F32, "gradient of the logits")
    del zeros, added
    return (out,)


def cross_entropy(t: Tape, logits: Tensor, rows: Any) -> Tensor:
    """loss_parallel: log-softmax and its loss on each GPU's words (torch/distributed/tensor/parallel/loss.py)."""
    shifted = t.alloc(logits.n, F32, "logits less their greatest")
    exp = t.alloc(logits.n, F32, "exponentials")
    del exp
    logp = t.alloc(logits.n, F32, "log-softmax")
    del shifted
    labels = t.alloc(rows, I64, "shifted labels")
    mask = t.alloc(rows, BOOL, "labels elsewhere")
    made = t.emit("loss", 1, F32, (logits,), _parallel_nll_bwd, [logp.st, labels.st], logits.n)
    del mask, logp
    return made


__all__ = ["cross_entropy", "cut", "embedding", "entered", "gathered", "scattered", "summed", "whole"]
