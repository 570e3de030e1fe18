"""The matrix products of one pass through a model: the list that every FLOP and every step time is a fold over."""

from __future__ import annotations

from typing import Any

from estimator.records import NamedTuple

MULTIPLY_ADD = 2  # operations in one multiply-add

# what a product belongs to, in the order of a report's rows
PROJECTION, ATTENTION, MLP, EXPERTS, ROUTER, SCAN, CONVOLUTION, EMBEDDING, HEAD, ADAPTER = (
    "attention projections", "attention", "MLP", "experts", "router", "state-space scan",
    "convolution", "embedding projections", "output head", "adapters",
)  # fmt: skip
PARTS = (EMBEDDING, PROJECTION, ATTENTION, SCAN, CONVOLUTION, ROUTER, EXPERTS, MLP, ADAPTER, HEAD)


class Product(NamedTuple):
    """``count`` products [m, k] x [k, n] in each of ``times`` layers, and which products their backward pass holds.

    name      the module, e.g. ``model.layers.{i}.mlp.up_proj``; ``....scores`` and ``....values`` of an attention
    part      one of :data:`PARTS`; operator: ``linear``, ``bmm``, ``experts``, ``sdpa`` (fused attention), ``conv``,
              or ``backward`` (a product that only the backward pass holds)
    left      True where the backward pass computes the gradient of the left operand (a linear layer's input)
    right     True for the right operand (its weight)
    again     products of this size that the fused backward kernel computes again (the scores): 0 or 1
    recomputed  True where checkpointing runs it a second time
    pairs     query-key pairs that the mask leaves visible, m * n where None (attention only)
    overcount FLOPs a layer that FlopCounterMode counts beyond the real ones (grouped convolution_backward)
    wide      True where an attention multiplies in fp32, whatever the pass is in
    weight    elements of the right operand that are stored weights, 0 for activations: read once whatever m is
    layer     the layer group it stands in, for tables by layer; "" outside the layers
    """

    name: str
    part: str
    m: Any
    k: Any
    n: Any
    count: Any = 1
    times: Any = 1
    operator: str = "linear"
    left: bool = False
    right: bool = False
    again: int = 0
    recomputed: bool = False
    pairs: Any = None
    pairs_of: str = "n"
    overcount: Any = 0
    weight: Any = 0
    layer: str = ""
    wide: bool = False

    @property
    def saves(self) -> bool:
        """True where it keeps something for the backward pass."""
        return self.left or self.right

    @property
    def gradients(self) -> int:
        """Products of the same size in the backward pass."""
        return int(self.left) + int(self.right) + self.again

    def forward(self, causal: bool = False) -> Any:
        """FLOPs of one forward pass over all layers; ``causal``: only the pairs that the mask leaves visible."""
        return 0 if self.operator == "backward" else self.times * self.flops(causal)

    def flops(self, causal: bool = False) -> Any:
        """FLOPs of one forward pass of one layer."""
        if causal and self.pairs is not None:
            width = self.k if self.pairs_of == "n" else self.n
            return MULTIPLY_ADD * self.count * self.pairs * width
        return MULTIPLY_ADD * self.count * self.m * self.k * self.n

    def backward(self, causal: bool = False) -> Any:
        """FLOPs of the backward pass over all layers, recomputation not included."""
        return self.times * (self.gradients * self.flops(causal) + self.overcount)

    def recompute(self, causal: bool = False) -> Any:
        """FLOPs that checkpointing adds over all layers."""
        return self.forward(causal) if self.recomputed else 0

    def total(self, causal: bool = False) -> Any:
        """Forward, backward and recomputed FLOPs."""
        return self.forward(causal) + self.backward(causal) + self.recompute(causal)

    @property
    def launches(self) -> Any:
        """Kernels launched over all layers and passes; scores and values of fused attention are one."""
        if self.operator == "sdpa" and self.name.endswith(".values"):
            return 0
        gradients = 1 if self.operator == "sdpa" and self.gradients else int(self.left) + int(self.right)
        return self.times * (1 + gradients + int(self.recomputed))


FP32_BYTES = 4
