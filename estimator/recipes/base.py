"""What a recipe states: bytes a parameter, and whether its activations are simulated or a published formula."""

from __future__ import annotations

from dataclasses import dataclass

from estimator.formula import Citation


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training stack, or a paper's accounting.

    weights, gradients, master, states   bytes of a trained parameter under AdamW: the numbers that are multiplied with,
                 their gradients, an fp32 copy, the two moments
    kind         "simulated": every allocation of the transformers + PyTorch stack; else the name of the activation
                 formula ("megatron", "zero-paper")
    width        bytes of a parameter in the simulated stack; amp: autocast
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

    @property
    def per_parameter(self) -> int:
        """Bytes of a trained parameter under AdamW."""
        return self.weights + self.gradients + self.master + self.states
