"""Encoders: BERT and its relatives, with the masked-language-model head and loss."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Architecture, Extra, Linear, Norm
from estimator.families.towers import Conv
from estimator.stack import ops
from estimator.stack.losses import cross_entropy, head_weight
from estimator.stack.machine import Machine
from estimator.stack.model import Forward, Segment, embed, pooled, rope_tables, stack, transformed
from estimator.stack.nn import convolution, linear, product
from estimator.stack.norms import norm
from estimator.stack.prompt import prompted
from estimator.stack.tape import BOOL, F32, Tensor


def masked_lm(m: Machine, arch: Architecture, segments: list[Segment], checkpointing: bool) -> Forward:
    """BertForMaskedLM.forward and its kind: the loss is taken on the logits as they are."""
    t = m.t
    out = Forward()
    with t.at("embedding"):
        x = embed(m, arch, None, checkpointing and m.inputs_want_grad)
        if m.prompted:
            x = prompted(m, x, arch.hidden)
    local: dict[Any, Tensor | None] = {}
    for layer in arch.layers:
        window = getattr(layer.mixer, "window", None)
        if window is not None and window not in local:
            local[window] = t.alloc(m.s * m.s, BOOL, "local attention mask") if m.s > window // 2 else None
    at = {"masks": lambda machine, a: local.get(a.window), "rope": rope_tables(m, x.w)}
    x = stack(m, x, segments, at, out, checkpointing)
    for part in arch.final:
        if isinstance(part, Norm):
            x = norm(m, x, part)
        elif isinstance(part, (Linear, Conv)):
            x = linear(m, x, part) if isinstance(part, Linear) else convolution(m, x, part)
    pool = pooled(m, x, arch) if arch.pooler else None
    with t.at("head"):
        logits = prediction(m, x, arch)
    if m.training:
        with t.at("loss"):
            # ForMaskedLMLoss converts the logits; the older encoders call CrossEntropyLoss themselves
            wide = ops.to(t, logits, F32) if arch.wide_loss else logits
            out.loss = cross_entropy(t, wide, m.rows) if arch.has_head or pool is None or bare(arch) else None
            del wide
            if pool is not None and not bare(arch):  # a classifier's loss, or the next sentence's beside the tokens'
                loss = cross_entropy(t, pool, m.b)
                out.loss = loss if out.loss is None else ops.add(t, out.loss, loss)
        out.held = m.hand_on(logits)
    t.leave_autocast()
    return out


def bare(arch: Architecture) -> bool:
    """Whether it is the model without any head, whose loss is taken on its hidden states."""
    return arch.facts.get("class") == "Model"


def prediction(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """The prediction head: dense, activation, norm, the (tied) output matrix."""
    x = transformed(m, x, arch)
    bias = next((m.extra(p) for p in arch.head_extras if isinstance(p, Extra) and p.name.endswith("bias")), None)
    if not arch.has_head:
        return x
    if arch.head is not None:
        return linear(m, x, arch.head)
    weight = head_weight(m, arch)
    return product(m.t, x, weight, bias, m.rows * arch.vocab, "logits", name="lm_head", rows=m.rows)
