"""Routed experts as Megatron-Core runs them: tokens permuted and dealt out, sorted by expert, and back.

Source: Megatron-Core 0.14, core/transformer/moe/token_dispatcher.py (MoEAlltoAllTokenDispatcher), moe_utils.py
(permute, unpermute, sort_chunks_by_idxs), experts.py (TEGroupedMLP) and core/fusions/fused_bias_swiglu.py
(weighted_bias_swiglu_impl); Transformer Engine, pytorch/permutation.py: one kernel each way, beside those that number
the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator.families.base import Extra, MoE
from estimator.stack import moves
from estimator.stack.machine import Machine
from estimator.stack.tape import GradFn, Tape, Tensor

NUMBERED = 3  # kernels before the permutation: the rows' numbers in two passes, and the experts' counts

Grouped = Callable[[Tensor, Extra, Any], Tensor]


def dispatched(
    m: Machine, x: Tensor, stacks: tuple[Extra, Extra], block: MoE, weights: Tensor, n: Any, grouped: Grouped
) -> Tensor:
    """``n`` routed tokens through the experts, whose matrices up (or gate and up) and down ``grouped`` multiplies with.

    The weights multiply the activation, so that what comes back is only summed.
    """
    t, (up, down) = m.t, stacks
    dealt = t.emit("permuted", n * block.d, x.w, (x,), _moved_bwd, None, x.n)
    moves.log(t, "numbering rows", NUMBERED)
    chosen = t.emit("sorted by expert", dealt.n, x.w, (dealt,), _moved_bwd, None, dealt.n)
    wide = block.width * 2 if block.gated else block.width
    out = grouped(chosen, up, n * wide)
    out = t.emit("gated", n * block.width, out.w, (out, weights), _gated_bwd, (out.st, weights.st), (out.n, weights.n))
    out = grouped(out, down, n * block.d)
    out = t.emit("sorted back", out.n, out.w, (out,), _moved_bwd, None, out.n)
    return t.emit("unpermuted", x.n, x.w, (out,), _moved_bwd, None, out.n)


def _rows(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """One kernel reads the rows and writes them elsewhere."""
    moves.log(t, what, moved=ins[0].n * ins[0].w + out.n * out.w)


def _rows_back(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    moves.log(t, "gradient of a permutation", moved=(g.n + node.extra) * g.w)


@moves.moving(_rows, _rows_back)
def _moved_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(node.extra, g.w, "gradient of a permutation"),)


def _gated_back(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """One kernel reads the gradient and its input, and writes the input's and the weights'."""
    moves.log(t, "gradient of the gated product", moved=(g.n + 2 * node.extra[0]) * g.w)


@moves.moving(_rows, _gated_back)
def _gated_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    n, weights = node.extra
    sizes = ((n, "gradient of the gated product"), (weights, "gradient of the weights"))
    return tuple(
        None if i is None else t.alloc(size, g.w, what) for i, (size, what) in zip(node.ins, sizes, strict=True)
    )
