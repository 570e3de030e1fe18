"""Formulas of pruning and quantisation."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import COUNT, MACS, RATIO

JACOB = "Jacob et al. 2018, arXiv 1712.05877, section 2.1"


@formula(unit=MACS, cite="counting: one product for each output, kernel and input-channel position")
def conv_macs(c_o: Any, h_o: Any, w_o: Any, k_h: Any, k_w: Any, c_i: Any) -> Any:
    """Multiply-adds of a convolution: c_i input, c_o output channels, an h_o x w_o output, a k_h x k_w kernel."""
    return c_o * h_o * w_o * k_h * k_w * c_i


@formula(
    unit=RATIO,
    cite="counting: input and output channels both shrink",
    assumes=("every layer loses the same share of its channels",),
)
def channel_pruned_ratio(p: Any) -> Any:
    """Multiply-adds left, as a share, when a share p of all channels is pruned."""
    return (1 - p) ** 2


@formula(unit=COUNT, cite="counting: n bits tell 2^n values apart")
def quantisation_levels(n: Any) -> Any:
    """Distinct values of an n-bit code (k-means centroids, or steps of a linear quantiser)."""
    return 2**n


@formula(unit=RATIO, cite=JACOB)
def linear_scale(r_max: Any, r_min: Any, q_max: Any, q_min: Any) -> Any:
    """Scale S of linear quantisation, r = S (q - Z)."""
    return (r_max - r_min) / (q_max - q_min)


@formula(unit=RATIO, cite=JACOB, assumes=("the zero point is this, rounded to the nearest integer, ties to even",))
def linear_zero(r_min: Any, q_min: Any, S: Any) -> Any:
    """Zero point of linear quantisation before rounding: the code of 0."""
    return q_min - r_min / S


@formula(unit=RATIO, cite="Dettmers et al. 2023, arXiv 2305.14314, section 3")
def block_bits(n: Any, m: Any, w_s: Any, w_z: Any) -> Any:
    """Bits a weight of n-bit codes in blocks of m with one scale of w_s and one zero point of w_z bits."""
    return n + (w_s + w_z) / m
