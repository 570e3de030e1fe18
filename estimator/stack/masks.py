"""Masks of attention, made once for each kind of layer before the stack runs."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Architecture, Attention
from estimator.stack.machine import Machine
from estimator.stack.tape import BOOL, Tensor


def masks(m: Machine, arch: Architecture) -> Any:
    """The attention mask of a layer: made once for each kind of layer, before the stack."""
    made: dict[Any, Tensor | None] = {}

    def mask(machine: Machine, a: Attention) -> Tensor | None:
        return made.get(a.window if a.window is not None else a.chunk)

    for layer in arch.layers:
        a = layer.ahead.attention if layer.ahead else layer.mixer
        if isinstance(a, Attention) and layer.side == "decoder":
            key = a.window if a.window is not None else a.chunk
            if key not in made:
                made[key] = causal_mask(m, a, key)
    return mask


def causal_mask(m: Machine, a: Attention, window: Any) -> Tensor | None:
    """masking_utils.py: none where SDPA's is_causal does; a boolean one for SDPA, numbers for eager attention."""
    t = m.t
    kv = m.held_tokens(a) if window is not None else m.kv
    if m.fused and m.training and m.blocks:  # a mask of the blocks that position ids show, or might show
        return t.alloc(m.b * m.s * kv, BOOL, "attention mask")
    if a.mask == "always" and a.position == "alibi":  # FalconModel adds its alibi to it
        return t.alloc(m.b * a.heads * m.s * kv, m.w, "alibi and mask")
    if a.mask == "always" and m.fused:
        return t.alloc(m.s * kv, BOOL, "attention mask")
    if m.fused and (m.s == 1 or kv == m.s) and (window is None or kv < window):
        return None
    if m.fused and m.s == 1 and (window is None or kv <= window):
        return None
    boolean = t.alloc((m.b if m.masked else 1) * m.s * kv, BOOL, "attention mask")
    if m.fused:
        return boolean
    # torch.where writes the expanded mask out; MPT turns that into a boolean one
    return t.alloc(m.b * m.s * kv, BOOL if a.mask == "boolean" else m.w, "attention mask")
