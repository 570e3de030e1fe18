"""Formulas of adapters: what LoRA on one matrix trains, and what a linear layer and attention cost with it."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.ops import ceil_div
from estimator.units import BITS, BITS_PER_BYTE, BYTES, COUNT, MACS, PARAMS, PERCENT

LORA = "Hu et al. 2021, arXiv 2106.09685, section 4.1"
QLORA = "Dettmers et al. 2023, arXiv 2305.14314, section 3"
NF4_BITS, NF4_BLOCK, FP32_BITS = 4, 64, 32  # a code, weights that share one absmax, and the absmax
DOUBLE_BLOCK, FP8_BITS = 256, 8  # double quantisation: absmaxes that share one fp32 scale, bits of each
PERCENT_OF = 100


@formula(unit=PARAMS, cite=LORA)
def lora_params(d_in: Any, d_out: Any, r: Any) -> Any:
    """A (r x d_in) and B (d_out x r) beside one matrix of d_out x d_in."""
    return r * (d_in + d_out)


@formula(unit=PARAMS, cite="the matrix itself")
def matrix_params(d_in: Any, d_out: Any) -> Any:
    """A full update of one matrix of d_out x d_in."""
    return d_in * d_out


@formula(unit=BYTES, cite="parameters times their width")
def adapter_bytes(params: Any, w: Any) -> Any:
    """params numbers of w bits each, rounded up to whole bytes."""
    return ceil_div(params * w, BITS_PER_BYTE)


@formula(unit=PERCENT, cite="peft 0.21.2, peft_model.py, print_trainable_parameters")
def trainable_percent(trained: Any, all_params: Any) -> Any:
    """Trained parameters in percent of all, the adapter's own included."""
    return trained * PERCENT_OF / all_params


@formula(unit=COUNT, cite=LORA, assumes=("trained parameters grow by the same number with every rank",))
def rank_for(budget: Any, offset: Any, step: Any) -> Any:
    """The largest rank whose offset + step * r trained parameters stay within budget."""
    return (budget - offset) // step


@formula(unit=MACS, cite=LORA)
def linear_unmerged_macs(n: Any, d: Any, r: Any) -> Any:
    """Multiply-adds of X W + X A B^T for n tokens: W d x d, A and B d x r, and the n x d sum of both."""
    return n * d**2 + 2 * n * d * r + n * d


@formula(unit=MACS, cite=LORA + " (no additional inference latency)")
def linear_merged_macs(n: Any, d: Any) -> Any:
    """Multiply-adds of X (W + A B^T) for n tokens, merged once before."""
    return n * d**2


@formula(unit=MACS, cite=QLORA)
def dequantisation_macs(d: Any) -> Any:
    """One multiplication a weight whenever a d x d matrix stored in 4 bits is used."""
    return d**2


@formula(unit=PARAMS, cite=LORA)
def linear_lora_params(d: Any, r: Any) -> Any:
    """A and B of one d x d layer."""
    return 2 * d * r


@formula(unit=MACS, cite=LORA, assumes=("each of h heads projects d to d, so the output projection is hd x d",))
def mha_unmerged_macs(n: Any, d: Any, r: Any, h: Any) -> Any:
    """h heads: scores and weighted sum (2 n^2 d), q, k, v with LoRA, the softmax's n^2, and the head's n d^2
    of the output."""
    return h * (2 * n**2 * d + 3 * linear_unmerged_macs(n, d, r) + n**2 + n * d**2)


@formula(
    unit=MACS, cite=LORA, assumes=("each of h heads projects d to d", "the output projection counted as d x d once")
)
def mha_unmerged_macs_small_output(n: Any, d: Any, r: Any, h: Any) -> Any:
    """The same with an output projection of d x d, as some course notes count it; it cannot take hd inputs."""
    return h * (2 * n**2 * d + 3 * linear_unmerged_macs(n, d, r) + n**2) + n * d**2


@formula(unit=MACS, cite=LORA, assumes=("each of h heads projects d to d",))
def mha_merged_macs(n: Any, d: Any, h: Any) -> Any:
    """h heads with LoRA merged into q, k and v."""
    return h * (2 * n**2 * d + 3 * n * d**2 + n**2 + n * d**2)


@formula(unit=MACS, cite="Vaswani et al. 2017, section 3.2.2", assumes=("heads of d/h, as models have them",))
def mha_standard_macs(n: Any, d: Any, r: Any, h: Any) -> Any:
    """The standard module with LoRA on q, k, v: four d x d projections, scores and weighted sum over all
    heads, softmax."""
    return 2 * n**2 * d + 3 * linear_unmerged_macs(n, d, r) + h * n**2 + n * d**2


@formula(unit=PARAMS, cite=LORA, assumes=("each of h heads projects d to d",))
def mha_lora_params(d: Any, r: Any, h: Any) -> Any:
    """A and B of q, k and v in each of h heads."""
    return 6 * h * d * r


@formula(unit=BITS, cite=QLORA, assumes=("the quantisation constants are not counted",))
def four_bit_saving(d: Any, w: Any) -> Any:
    """Bits saved on a d x d matrix by 4-bit codes instead of w bits a weight."""
    return (w - NF4_BITS) * d**2


@formula(unit=BITS, cite=QLORA)
def nf4_saving(d: Any, w: Any) -> Any:
    """Bits saved with one fp32 constant for each block of 64 weights."""
    return four_bit_saving(d, w) - FP32_BITS * d**2 / NF4_BLOCK


@formula(unit=BITS, cite=QLORA + " (double quantization)")
def nf4_double_saving(d: Any, w: Any) -> Any:
    """Bits saved with an 8-bit constant for each block, and one fp32 scale for 256 of those."""
    return four_bit_saving(d, w) - FP8_BITS * d**2 / NF4_BLOCK - FP32_BITS * d**2 / (NF4_BLOCK * DOUBLE_BLOCK)
