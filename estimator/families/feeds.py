"""Feed-forward blocks of a layer: an MLP, routed experts, and chains of matrices beside the branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.families.common_parts import Extra, Linear, Norm
from estimator.inventory import Weight
from estimator.records import NamedTuple


class MLP(NamedTuple):
    """A feed-forward block. ``up`` (and ``gate`` where gated) then ``down``; ``fused``: gate and up in one Linear.

    act: the transformers name of the activation: "silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu" ...; or
    "bloom_gelu", which is one node of autograd. cast: what goes into ``down`` is converted to its weight's width (T5).
    norm: of what goes into ``down`` (BitNet), or None. extras: weights of the activation (Apertus). clamped: both
    halves are clamped before the activation (DeepSeek-V4). limited: the config bounds the activation and the other half
    (Step 3.5). receptance: a gate of the output (RWKV, which mixes
    its input with the token before by ``extras``), or None. sparse: gates under a multiple of their deviation are cut
    off (Gemma 3n). named: its forward pass names the gate, its activation and the other half until it returns.
    """

    linears: tuple[Linear, ...]
    width: Any
    act: str
    gated: bool
    fused: bool = False
    cast: bool = False
    norm: Norm | None = None
    extras: tuple[Extra, ...] = ()
    clamped: bool = False
    limited: bool = False
    receptance: Linear | None = None
    sparse: bool = False
    named: bool = False

    def parts(self) -> tuple[Any, ...]:
        more = tuple(x for x in (self.norm, self.receptance) if x is not None)
        return (*self.linears, *more, *self.extras)


class MoE(NamedTuple):
    """Routed experts, stored stacked as transformers 5 stores them, and shared experts.

    experts       stacked weights [E, ...] as Extras of role EXPERT (weights and biases)
    router        Linear or Extras of role ROUTER
    num, per_token, width   experts, experts a token, width of one
    shared        MLP or None; shared_gate: Linear [d -> 1] or None
    d             model width (the experts' input)
    act           of the experts; "clamped_swiglu" is gpt-oss's: both halves clamped, gate*sigmoid(1.702*gate)*(up+1);
                  "swiglu_oai" the same of halves that are not interleaved (MiniMax M3)
    transposed    True where an expert's weights are [in, out] (gpt-oss), else [out, in]
    router_linear True where the router is a torch.nn.Linear (Phi-MoE); elsewhere its weight is a bare parameter
    routing       how experts are chosen: "softmax" (over all, in fp32, weights in the width of the logits),
                  "softmax_kept" (Mixtral: weights in fp32), "best_softmax" (gpt-oss: of the best logits),
                  "best_softmax_fp32" (Granite: of the best in fp32),
                  "softmax_fp32" (DeepSeek-V2: logits and weights in fp32 too), "sigmoid_groups" (DeepSeek-V3, GLM-4.5),
                  "softmax_biased" (ERNIE 4.5: the best after a bias, weights in the width of the input),
                  "sigmoid" (LFM2) and "biased" (DeepSeek-V4: scores in the model's width, the best after a bias),
                  "looked_up" (by the token), "sparse_mixer" (Phi-3.5-MoE: one after the other, drawn in training)
    groups        (groups of experts, those a token may choose from) ("sigmoid_groups")
    normed        True where the weights of the chosen are divided by their sum
    idle          experts without weights, which a token may choose too (LongCat-Flash)
    clamped       True where both halves are clamped before the activation (DeepSeek-V4)
    limited       True where the config bounds the activation and the other half (Step 3.5)
    shared_first  True where the shared experts run before the routed ones
    jitter        times that its input is multiplied by noise in training, in place
    latent        matrices into and out of the width in which the experts work (Nemotron 3), or ()
    norms         of the shared experts' output, the routed ones' input and their output, and of the router's input
                  (Gemma 4, whose router and experts read the residual stream); empty elsewhere
    """

    experts: tuple[Extra, ...]
    router: tuple[Any, ...]
    num: Any
    per_token: Any
    width: Any
    d: Any
    act: str = "silu"
    gated: bool = True
    shared: MLP | None = None
    shared_gate: Linear | None = None
    transposed: bool = False
    router_linear: bool = False
    routing: str = "softmax"
    shared_first: bool = False
    norms: tuple[Norm, ...] = ()
    latent: tuple[Linear, ...] = ()
    clamped: bool = False
    limited: bool = False
    groups: tuple[Any, Any] = (1, 1)
    normed: bool = True
    idle: Any = 0
    jitter: int = 0

    def parts(self) -> tuple[Any, ...]:
        shared = (self.shared.parts() if self.shared else ()) + ((self.shared_gate,) if self.shared_gate else ())
        return (*self.router, *self.experts, *shared, *self.norms, *self.latent)


class SideChain(NamedTuple):
    """Matrices and norms that run beside a layer's two branches for every token, one after the other, and are added to
    the stream (Gemma 3n's LAuReL, Gemma 4's input of each layer); or those of AltUp, in its own order ("altup").

    parts     Linears, Norms and Extras in the order in which they run
    act       the activation after the first matrix, or ""
    scaled    True where another tensor multiplies the activation
    """

    parts_: tuple[Any, ...]
    act: str = ""
    scaled: bool = False

    def parts(self) -> tuple[Any, ...]:
        return self.parts_


class Copies(NamedTuple):
    """AltUp's copies of the stream (Gemma 3n): each but the first goes through a matrix of its own and is made as large
    as the first; before the layers to make them (``opens``), and after them, where their mean is taken."""

    linears: tuple[Linear, ...]
    opens: bool = False

    def weights(self, times: Any = 1) -> Iterator[Weight]:
        for linear in self.linears:
            yield from linear.weights(times)


class Ahead(NamedTuple):
    """A transformer block before the mixer (Zamba 2): it reads the stream beside the embeddings, and what it puts out,
    through ``out``, is added to what the mixer reads.

    attention, mlp, norms   shared by all layers of the group: their names hold a layer's number
    out, pairs    each layer's own: a matrix, and two matrices of a low rank for q, k and v (where all four are there)
                  and for the MLP; ordinals: the numbers of the pairs
    """

    attention: Any
    mlp: MLP
    norms: tuple[Norm, Norm]
    out: Linear
    pairs: tuple[tuple[Linear, Linear], ...]
    ordinals: tuple[int, ...]

    def parts(self) -> tuple[Any, ...]:
        shared = (*self.attention.parts(), *self.mlp.parts(), *self.norms)
        return (*shared, self.out, *(x for pair in self.pairs for x in pair))

    def weights(self, times: Any, indices: tuple[int, ...] | None) -> Iterator[Weight]:
        """Every weight, shared ones once."""
        for part in self.parts():
            for w in part.weights():
                at = self.ordinals if ".{i}." in w.name and part is not self.out else indices
                yield w._replace(times=times, layers=at) if "{i}" in w.name else w


class NoMixer(NamedTuple):
    """In the mixer's place of a layer that is a feed-forward block alone (Nemotron-H)."""

    def parts(self) -> tuple[Any, ...]:
        return ()
