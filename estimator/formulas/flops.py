"""FLOPs in closed form: one product, and the rules of thumb that are quoted instead of a count.

A multiply-add is two operations everywhere. The rules are exact ints on ints, so that their error against the exact
count is the rule's own.
"""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import FLOPS, RATIO

MULTIPLY_ADD = 2  # operations in one multiply-add
FORWARD, BACKWARD = 1, 2  # a backward pass holds two products for each one of the forward pass
STEP = FORWARD + BACKWARD


@formula(unit=FLOPS, cite="torch 2.13, torch/utils/flop_counter.py, mm_flop")
def product_flops(m: Any, k: Any, n: Any) -> Any:
    """A matrix product [m, k] x [k, n]: m * n dot products of k multiply-adds."""
    return MULTIPLY_ADD * m * k * n


@formula(
    unit=FLOPS,
    cite="Kaplan et al. 2020, arXiv 2001.08361, section 2.1",
    assumes=("every parameter multiplies every token once", "attention's own products are left out"),
)
def forward_flops_2nd(P: Any, D: Any) -> Any:
    """2 N D: one multiply-add for each of P parameters and D tokens."""
    return MULTIPLY_ADD * P * D


@formula(
    unit=FLOPS,
    cite="Kaplan et al. 2020, arXiv 2001.08361, section 2.1; Brown et al. 2020, arXiv 2005.14165, appendix D",
    assumes=("a backward pass costs two forward passes", "attention's own products are left out"),
)
def training_flops_6nd(P: Any, D: Any) -> Any:
    """6 N D: forward and backward of P parameters over D tokens."""
    return STEP * MULTIPLY_ADD * P * D


@formula(
    unit=FLOPS,
    cite="Brown et al. 2020, GPT-3, arXiv 2005.14165, table D.1",
    assumes=("an encoder-decoder's token passes through half of its parameters",),
)
def training_flops_encoder_decoder(P: Any, D: Any) -> Any:
    """3 N D: 6 FLOPs for each parameter that a token meets, half of them in an encoder-decoder."""
    return STEP * MULTIPLY_ADD * P * D // 2


@formula(
    unit=FLOPS,
    cite="Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B",
    assumes=("every query meets every key: the causal mask is not discounted",),
)
def palm_training_flops(P: Any, D: Any, L: Any, h: Any, d_h: Any, s: Any) -> Any:
    """(6 N + 12 L H Q T) a token, of D tokens in sequences of s."""
    return D * (STEP * MULTIPLY_ADD * P + STEP * MULTIPLY_ADD * 2 * L * h * d_h * s)


@formula(
    unit=FLOPS,
    cite="Korthikanti et al. 2022, arXiv 2205.05198, appendix A, equation 7 (model FLOPs)",
    assumes=("an MLP of width 4d without a gate", "as many key/value heads as query heads", "no causal discount"),
)
def megatron_model_flops(b: Any, L: Any, s: Any, d: Any, V: Any) -> Any:
    """72 B L s h^2 (1 + s/6h + V/12hL), multiplied out: projections and MLP, attention, logits."""
    return 72 * b * L * s * d**2 + 12 * b * L * s**2 * d + 6 * b * s * d * V


@formula(
    unit=FLOPS,
    cite="Korthikanti et al. 2022, arXiv 2205.05198, appendix A, equation 8 (hardware FLOPs, selective recomputation)",
    assumes=("the published form counts the recomputed attention as s/6h; one extra attention forward is s/18h",),
)
def megatron_hardware_flops(b: Any, L: Any, s: Any, d: Any, V: Any) -> Any:
    """72 B L s h^2 (1 + s/3h + V/12hL), multiplied out."""
    return 72 * b * L * s * d**2 + 24 * b * L * s**2 * d + 6 * b * s * d * V


@formula(
    unit=FLOPS,
    cite="Narayanan et al. 2021, Megatron-LM, arXiv 2104.04473, section 3.1 and equation 3",
    assumes=("every layer is recomputed: four forward passes' worth", "an MLP of width 4d without a gate"),
)
def narayanan_flops(b: Any, L: Any, s: Any, d: Any, V: Any) -> Any:
    """96 B s l h^2 (1 + s/6h + V/16lh), multiplied out."""
    return 96 * b * s * L * d**2 + 16 * b * L * s**2 * d + 6 * b * s * d * V


@formula(
    unit=FLOPS,
    cite="Hoffmann et al. 2022, Chinchilla, arXiv 2203.15556, appendix F",
    assumes=("embeddings and logits are left out", "the softmax counts 3 h s^2"),
)
def chinchilla_training_flops(L: Any, d: Any, d_ff: Any, h: Any, s: Any) -> Any:
    """One sequence through L layers, forward and backward: q, k, v and o, scores, softmax, values, an MLP of d_ff."""
    return STEP * L * (8 * s * d**2 + 4 * s**2 * d + 3 * h * s**2 + 4 * s * d * d_ff)


@formula(unit=RATIO, cite="Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B")
def utilisation(flops: Any, seconds: Any, gpus: Any, peak: Any) -> Any:
    """Model (or hardware) FLOPs a second over the peak of all GPUs."""
    return flops / (seconds * gpus * peak)
