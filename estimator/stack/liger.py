"""Liger's kernels: norms that keep the stream, gated products that keep both halves, a rotation in place.

Source: liger-kernel 0.8, liger_kernel/ops/{rms_norm,swiglu,geglu,rope}.py and transformers/monkey_patch.py.
"""

from __future__ import annotations

from typing import Any

from estimator.stack import moves
from estimator.stack.tape import F32, GradFn, Param, Tape, Tensor

Grads = tuple[Tensor | None, ...]
PROCESSORS = 132  # of an H100: rms_norm_backward sums the weight's gradient in a row for each


def rms(t: Tape, x: Tensor, rows: Any, weight: Param | None, in_place: bool) -> Tensor:
    """LigerRMSNormFunction: keeps its input as it is and the inverse deviations of the rows."""
    inverse = t.alloc(rows, F32, "norm statistics")
    ins = (x,) if weight is None else (x, weight)
    shape = None if weight is None else (weight.n, weight.w)
    return t.emit("norm output", x.n, x.w, ins, _rms_bwd, (x.st, inverse.st), (shape, in_place))


def _rms_fore(t: Tape, what: str, out: Tensor, ins: Any) -> None:
    """One kernel reads the rows and writes them."""
    moves.log(t, what, 1, ins[0].n * ins[0].w + out.n * out.w)


def _rms_back(t: Tape, node: GradFn, g: Tensor, outs: Any) -> None:
    """One kernel reads the gradient and the input, and writes the input's; another sums the weight's."""
    moves.log(t, "gradient of the norm", 1 + (len(outs) > 1), 3 * g.n * g.w)


@moves.moving(forward=_rms_fore, backward=_rms_back)
def _rms_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """The gradient of the input overwrites the incoming one; Gemma's is a new tensor."""
    weight, in_place = node.extra
    trains = weight and node.ins[1] is not None
    sums = t.alloc(PROCESSORS * weight[0], F32, "gradient of the norm, by processor") if trains else None
    outs: list[Tensor | None] = [Tensor(g.n, g.w, g.st) if in_place else t.alloc(g.n, g.w, "gradient of the norm")]
    if weight:
        outs.append(t.alloc(weight[0], weight[1], "gradient of the norm") if trains else None)
    del sums
    return tuple(outs)


def gated(t: Tape, gate: Tensor, up: Tensor, copied: bool = False) -> Tensor:
    """LigerSiLUMulFunction and LigerGELUMulFunction: both halves are kept, and overwritten by their gradients.

    Halves of one tensor are not contiguous: ``copied`` first (ensure_contiguous).
    """
    kept = [t.alloc(x.n, x.w, "contiguous copy") if copied else x for x in (gate, up)]
    return t.emit("gated", gate.n, gate.w, (gate, up), _gated_bwd, tuple(k.st for k in kept), (gate.n, gate.w))


def _gated_back(t: Tape, node: GradFn, g: Tensor, outs: Any) -> None:
    """One kernel reads the gradient and both halves, and writes theirs."""
    moves.log(t, "gradient of the gated product", 1, 5 * g.n * g.w)


@moves.moving(backward=_gated_back)
def _gated_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    n, w = node.extra
    return tuple(None if p is None else Tensor(n, w, st) for p, st in zip(node.ins, node.saved, strict=True))


def is_gated(node: object) -> bool:
    """Whether a tensor of this node is what came out of gate and up."""
    return getattr(node, "fn", None) is _gated_bwd


def rotated(t: Tape, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """LigerRopeFunction: queries and keys are turned where they lie, and so are their gradients."""
    outs = []
    moves.log(t, "rotation", 1, 2 * (q.n * q.w + k.n * k.w))
    for x in (q, k):
        out = Tensor(x.n, x.w, x.st)
        if t.grad:
            t.record(out, (x,), _same_bwd)
        outs.append(out)
    return outs[0], outs[1]


def _same_back(t: Tape, node: GradFn, g: Tensor, outs: Any) -> None:
    """Read and written where it lies."""
    moves.log(t, "rotation of a gradient", 1, 2 * g.n * g.w)


@moves.moving(backward=_same_back)
def _same_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (Tensor(g.n, g.w, g.st),)


__all__ = ["gated", "is_gated", "rms", "rotated"]
