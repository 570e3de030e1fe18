"""The question of ``llmcalc flops``."""

from __future__ import annotations

from typing import Any

from estimator.questions.base import again, option
from estimator.questions.parts import Adapted, OnCard, Sequences
from estimator.records import dataclass


@dataclass(frozen=True, kw_only=True)
class Flops(Adapted, Sequences):
    """FLOPs of a forward pass, a training step or a decode step, by module, operator and layer."""

    mode: Any = option("forward", "forward, training or decode.", "NAME")
    context: Any = option(None, "Cached tokens of a decode step.", "TOKENS")
    encoder_len: Any = option(None, "Encoder tokens of an encoder-decoder model.", "TOKENS")
    logits: Any = option("all", "all, or last: the logits of one position.", "NAME")
    attention: Any = option("sdpa", "sdpa (fused, recomputes the scores backward) or eager.", "NAME")
    checkpointing: Any = option("none", "none or full: every layer recomputed.", "NAME")
    attention_flops: Any = option("full", "full: every pair; causal: unmasked pairs only.", "NAME")
    dtype: Any = option("bf16", "Of the operands, for bytes and peaks.", "NAME")
    gpu: Any = again(OnCard, "gpu", None)
    seconds: Any = option(None, "A measured time of this pass, for MFU and HFU.", "S", kind="float")
    plot: Any = option(False, "Draw the roofline of --gpu with the parts of the pass.", kind="flag")
    forced: Any = option(False, "A fused kernel also where transformers has none.", kind="flag", hidden=True)
    uncapped: Any = option(False, "SDPA drops a soft cap, as transformers does.", kind="flag", hidden=True)
