"""A model's forward pass by its kind: decoder, encoder, or both."""

from __future__ import annotations

from estimator.families.base import Architecture
from estimator.stack.machine import Machine
from estimator.stack.model import Forward, Segment, causal_lm


def forward(m: Machine, arch: Architecture, segments: list[Segment], checkpointing: bool) -> Forward:
    """A forward pass, with the loss in training."""
    try:
        if m.ahead is not None:
            ahead, m.ahead = m.ahead, None
            ahead(m, arch, lambda: by_kind(m, arch, segments, False), checkpointing)
            m.ahead = ahead
        return by_kind(m, arch, segments, checkpointing)
    finally:
        m.prompts = None
        m.named_by_caller.clear()


def by_kind(m: Machine, arch: Architecture, segments: list[Segment], checkpointing: bool) -> Forward:
    if arch.kind == "encoder":
        from estimator.stack.encoder import masked_lm

        return masked_lm(m, arch, segments, checkpointing)
    if arch.kind == "encoder-decoder":
        from estimator.stack.encdec import seq2seq

        return seq2seq(m, arch, segments, checkpointing)
    return causal_lm(m, arch, segments, checkpointing)
