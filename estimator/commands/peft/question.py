"""The question of ``llmcalc peft``."""

from __future__ import annotations

from typing import Any

from estimator.questions.base import option
from estimator.questions.parts import Adapted
from estimator.records import dataclass

METHOD = (
    "A method of the peft library in lower case, or dora, qlora, adapter, freeze, bitfit, soft-prompt, full; "
    "all compares."
)


@dataclass(frozen=True, kw_only=True)
class Peft(Adapted):
    """Parameters, bytes and work of an adapter: LoRA and every other method, equal to the peft library's counts."""

    method: Any = option("lora", METHOD, "METHOD")
    virtual_tokens: Any = option(None, "Virtual tokens of a prompt or prefix.", "P")
    dtype: Any = option(None, "Of what is trained: fp32, bf16 or fp16.", "NAME")
    optimizer: Any = option("adamw", "adamw, adamw8bit, sgd, sgd-momentum, adafactor, lion ...", "NAME")
    reduction: Any = option(None, "Solve for the rank: X times fewer trained parameters.", "X")
    budget: Any = option(None, "Solve for the rank: trained bytes at most this (100MB).", "SIZE")
    trainable: Any = option(None, "Solve for the rank: at most this share (0.5%).", "PERCENT")
    matrix: Any = option(None, "LoRA on one matrix instead of a model: 120x120 or mxl.", "MxN")
    complexity: Any = option(
        False, "Time and space of a linear layer and of attention under LoRA and QLoRA.", kind="flag"
    )
    seq_len: Any = option(None, "Tokens a sequence; 8k is 8192.", "TOKENS", short="-s")
