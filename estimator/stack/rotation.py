"""Rotary embeddings of queries and keys, as the classes' styles turn them."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Attention
from estimator.stack import liger, moves, ops
from estimator.stack.attention import rotate, rotate_part, rotate_wide
from estimator.stack.machine import Machine
from estimator.stack.tape import F32, Tensor


def concatenates(a: Attention) -> bool:
    """Whether the rotated queries come out of a concatenation, head by head."""
    return bool(a.rope_dim != a.head_dim) or a.rotary == "joined"


def rotated(m: Machine, q: Tensor, k: Tensor, a: Attention, at: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """apply_rotary_pos_emb."""
    moves.fused(m.t, "rotary embedding", 2 * (q.n + k.n) * q.w)
    if m.release.pairs:
        from estimator.stack.codes import rotated_pairs

        return rotated_pairs(m.t, q), rotated_pairs(m.t, k)
    cos, sin = at["rope"](m, a)
    if a.pairs:
        cos, sin = (ops.repeat(m.t, ops.piece(m.t, x, x.n // 2), 2, "table, each number twice") for x in (cos, sin))
    if a.rotary in WIDE:
        w, turn = q.w, WIDE[a.rotary]
        first, second = (ops.to(m.t, x, F32) if a.rotary == "widened" else x for x in (q, k))  # held while both turn
        q, k = turn(m.t, first, cos, sin), turn(m.t, second, cos, sin)
        return ops.to(m.t, q, w), ops.to(m.t, k, w)
    if m.kernels.rotary:
        return liger.rotated(m.t, q, k)
    if not concatenates(a):
        q = rotate(m.t, q, cos, sin)
        return q, rotate(m.t, k, cos, sin)
    q = rotate_part(m.t, q, cos, sin, a.rope_dim, a.head_dim)
    return q, rotate_part(m.t, k, cos, sin, a.rope_dim, a.head_dim)


WIDE = {"fp32": rotate_wide, "widened": rotate, "promoted": rotate}  # Attention.rotary, in fp32


__all__ = ["concatenates", "rotated"]
