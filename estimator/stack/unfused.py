"""What PyTorch's SDPA runs where no fused kernel does: everything in fp32, operation by operation.

Source: aten/src/ATen/native/transformers/attention.cpp, _scaled_dot_product_attention_math.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.families.base import Attention
from estimator.stack import gradients, moves, ops, products
from estimator.stack.machine import Machine
from estimator.stack.tape import BOOL, F32, RESULT, GradFn, Tape, Tensor

# what _safe_softmax runs within one operation: which scores are -inf, which rows hold nothing else, a zero, and those
# rows set to it
INSIDE = "rows of -inf, looked for"


def as_numbers(m: Machine, mask: Tensor, w: int) -> Tensor:
    """convert_boolean_attn_mask: a view of one mask for all sequences is written out for each."""
    n = mask.n if m.masked or m.blocks else m.b * mask.n
    bias = m.t.alloc(n, w, "attention mask as numbers")
    inverted = m.t.alloc(n, BOOL, "inverted mask")
    del inverted
    return bias


def math(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, s_q: Any, s_k: Any, mask: Tensor | None,
         causal: bool, repeats: Any = 1) -> Tensor:  # fmt: skip
    """_scaled_dot_product_attention_math: everything in fp32, scores and probabilities kept.

    PyTorch falls back to it for grouped queries in fp32, for heads that are broadcast, for biases that are permuted.
    """
    t = m.t
    with t.no_autocast():
        w = q.w
        if causal:
            lower = t.alloc(s_q * s_k, BOOL, "causal mask")
            mask = t.alloc(s_q * s_k, w, "causal mask as numbers")
            del lower
        elif mask is not None and mask.w == BOOL:
            mask = as_numbers(m, mask, w)
        if repeats != 1:
            k, v = ops.repeat(t, k, repeats), ops.repeat(t, v, repeats)
        q, k, v = ops.to(t, q, F32), ops.to(t, k, F32), ops.to(t, v, F32)
        q = ops.scale(t, q)
        n = m.b * a.heads * s_q * s_k
        split = m.b > 1
        spread = v.n < m.b * s_k * a.heads * a.head_dim
        apart = split and repeats == 1 and m.cache is None  # keys and values that no cache or repetition wrote out
        scores = _math_scores(m, q, k, a, n, (split, apart), spread)
        if mask is not None:
            moves.over(t, "masked scores", (scores, mask), scores)
            scores = ops.add_into(t, scores, mask)
        probs = ops.softmax(t, scores) if mask is None else _safe_softmax(t, scores)
        if mask is not None:
            infinite = t.alloc(probs.n, BOOL, "scores that are -inf")
            del infinite
        del scores
        if m.drops.attention:
            probs = ops.dropout(t, probs)
        second = t.alloc(probs.n, w, "probabilities, converted") if w != F32 else None
        if second is not None:
            moves.over(t, "probabilities, converted", (probs,), second)
        if spread:
            v = (
                ops.repeat(t, v, a.heads // a.kv_heads, "broadcast heads")
                if split
                else ops.expand(t, v, a.heads // a.kv_heads)
            )
        elif apart:
            v = ops.copy(t, v)
        out = ops.matmul(t, probs, v, m.b * a.heads * s_q * (v.n // (m.b * s_k * a.heads)), None, "attention output")
        products.fused(t, out, a, m.b * a.heads, s_q, s_k, wide=True)
        out = ops.to(t, out, w)
        del second
    return ops.copy(t, out, "attention output, transposed")


def _safe_softmax(t: Tape, scores: Tensor) -> Tensor:
    """A softmax whose rows are zero where all scores are -inf."""
    return t.emit("softmax", scores.n, scores.w, (scores,), _safe_softmax_bwd, RESULT, scores.w)


def _looked_for(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    moves.over(t, what, ins, out)
    moves.log(t, INSIDE, 3, moved=out.n * (out.w + 2 * BOOL))
    moves.log(t, INSIDE, strided=out.n)


_safe_softmax_bwd = moves.likewise(ops.softmax_bwd, _looked_for, gradients.through_plain)


def _math_scores(
    m: Machine, q: Tensor, k: Tensor, a: Attention, n: Any, copies: tuple[bool, bool], spread: bool
) -> Tensor:
    """q @ (k * scale)^T; permuted operands are copied, broadcast heads written out."""
    t = m.t
    k = t.emit("scaled", k.n, k.w, (k,), _transposed_bwd)
    if copies[0]:
        q = ops.copy(t, q)
    if spread:
        groups = a.heads // a.kv_heads  # with one sequence the batch of heads is a view
        k = ops.repeat(t, k, groups, "broadcast heads") if copies[0] else ops.expand(t, k, groups)
    elif copies[1]:
        k = ops.copy(t, k)
    return ops.matmul(t, q, k, n, None, "attention scores")


@moves.moving(moves.masked, gradients.transposed)
def _transposed_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """Of keys that are transposed, and then scaled."""
    return (t.alloc(g.n, g.w, "gradient"),)
