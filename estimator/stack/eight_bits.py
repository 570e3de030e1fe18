"""A linear layer of LLM.int8(), as bitsandbytes runs it forward and backward."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Linear
from estimator.stack import moves
from estimator.stack.tape import BOOL, F32, HALF, GradFn, Tape, Tensor


def int8_linear(t: Tape, x: Tensor, lin: Linear, rows: Any) -> Tensor:
    """bitsandbytes autograd/_functions.py, MatMul8bitLt, and backends/cuda/ops.py: a product of codes, summed in 32
    bits, scaled in fp16. Its input is an attribute of the node, which checkpointing does not see."""
    w, n = x.w, rows * lin.d_out
    half = t.alloc(x.n, HALF, "input in fp16") if w != HALF or not t.fp16 else None
    codes = t.alloc(x.n, 1, "codes of the input")
    sizes = t.alloc(x.n, HALF, "sizes of the input")
    far = t.alloc(x.n, BOOL, "outliers of the input")
    del sizes, far, half
    sums = t.alloc(n, F32, "sums of codes")
    scaled = t.alloc(n, HALF, "output in fp16") if w != HALF or not t.fp16 else None
    seen = t.frame is not None and not t.stops  # a reentrant call makes its graph when it runs again
    out = t.emit("output", n, w, (x,), _int8_bwd, x.st if seen else None, (x.n, lin.d_in * lin.d_out))
    del scaled, sums, codes
    if out.node is not None and not seen:
        t.attribute(x)
    return out


@moves.moving(moves.nothing, moves.nothing)
def _int8_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """The codes as numbers of the input's width, for the gradient of the input."""
    n_x, n = node.extra
    weight = t.alloc(n, g.w, "unpacked weight")
    out = t.alloc(n_x, g.w, "gradient of the input")
    del weight
    return (out,)
