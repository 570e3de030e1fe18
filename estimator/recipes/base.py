"""What a recipe states: bytes a parameter, and whether its activations are simulated or a published formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fractions import Fraction
from typing import Any

from estimator.formula import Citation
from estimator.records import dataclass
from estimator.stack.liger_mappings import TORCH, Replaced
from estimator.stack.releases import Release

FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training stack, or a paper's accounting.

    weights, gradients, master, states   bytes of a trained parameter under AdamW: the numbers that are multiplied with,
                 their gradients, an fp32 copy, the two moments
    kind         "simulated": every allocation of the transformers + PyTorch stack; else the name of the activation
                 formula ("megatron", "zero-paper")
    width        bytes of a parameter in the simulated stack, 0: as the checkpoint holds it; amp: autocast
    optimizer    where none is asked for; optimizers: names that stand for another one here
    wide_embeddings 8-bit states of embeddings stay in 32 bits
    loss         the loss it brings along; scored: the share of the tokens it is taken on
    quantised_adapters bytes of an adapter's parameter over a quantised base
    sequences    sequences of one example of the batch
    reference    a frozen model scores them too: "after" the policy's forward pass, "before" it where --reference asks
                 for it, "" never; scores: the model has one score a sequence in its head's place
    kernels      what runs as one kernel, forward and backward, in a step's time; slower: the device's seconds in a
                 step over those of its kernels one by one
    masked       batches come with an attention_mask; drops: the model drops where its config says so; silent: every
                 dropout is set to 0, an adapter's too
    moves        its trainer moves the model to the card once the adapter is on it: what peft leaves on the CPU goes too
    widens       accelerate copies a forward pass's outputs to fp32 under autocast
    code         whose modeling code runs, where it is not transformers'; holds: its loop names the logits until the
                 next are there
    narrow       adapters have the base's width
    always       options that it sets itself; unsaid: those that it sets where --checkpointing is not given
    adapters     LoRA runs as functions of its own
    checkpoints  checkpointing is the stack's own default (here it is --checkpointing that says so)
    generates    what it trains on it generates itself before a step
    """

    name: str
    title: str
    cite: Citation
    weights: int
    gradients: int
    master: int
    states: int
    kind: str = "simulated"
    width: int = 2
    amp: bool = False
    note: str = ""
    optimizer: str = "adamw"
    optimizers: Mapping[str, str] = field(default_factory=dict, hash=False)
    wide_embeddings: bool = False
    loss: str = "full"
    quantised_adapters: int = 4
    sequences: int = 1
    scored: Fraction = Fraction(1)
    reference: str = ""
    scores: bool = False
    masked: bool = False
    drops: bool = False
    silent: bool = False
    widens: bool = False
    moves: bool = False
    code: Release | None = field(default=None, hash=False)
    holds: bool = False
    narrow: bool = False
    always: Mapping[str, Any] = field(default_factory=dict, hash=False)
    unsaid: Mapping[str, Any] = field(default_factory=dict, hash=False)
    adapters: bool = False
    checkpoints: bool = False
    generates: bool = False
    kernels: Replaced = TORCH
    slower: float = 1.0

    @property
    def casts(self) -> bool:
        """Whether autocast converts its weights, since they are stored in fp32."""
        return self.amp and self.width == FP32_BYTES

    @property
    def per_parameter(self) -> int:
        """Bytes of a trained parameter under AdamW."""
        return self.weights + self.gradients + self.master + self.states
