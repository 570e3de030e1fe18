"""Formulas of the key-value cache and of recurrent states."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.ops import ceil_div, minimum, round_up
from estimator.units import BITS_PER_BYTE, BYTES, MACS, TOKENS

FP32_BITS = 32


@formula(
    unit=BYTES,
    cite="Pope et al. 2022, arXiv 2211.05102, section 2; transformers cache_utils.py, DynamicLayer",
    assumes=("every layer of the group holds the same tokens",),
)
def kv_cache_bytes(L: Any, b: Any, s: Any, h_kv: Any, d_h: Any, d_v: Any, w_kv: Any) -> Any:
    """One key of d_h and one value of d_v numbers for each token, key/value head and layer; w_kv bits a number."""
    return ceil_div(L * b * s * h_kv * (d_h + d_v) * w_kv, BITS_PER_BYTE)


@formula(unit=BYTES, cite="DeepSeek-V2, arXiv 2405.04434, section 2.1.2; transformers modeling_deepseek_v3.py")
def mla_cache_bytes(L: Any, b: Any, s: Any, r_kv: Any, d_rope: Any, w_kv: Any) -> Any:
    """One latent of r_kv and one shared rotary key of d_rope numbers for each token and layer."""
    return ceil_div(L * b * s * (r_kv + d_rope) * w_kv, BITS_PER_BYTE)


@formula(
    unit=BYTES,
    cite="Gu and Dao 2023, arXiv 2312.00752; transformers cache_utils.py, LinearAttentionLayer",
    assumes=("the recurrent state is kept in fp32, as the torch path does",),
)
def state_bytes(L: Any, b: Any, conv: Any, recurrent: Any, w: Any) -> Any:
    """A convolution's last inputs (w bits a number) and an fp32 recurrent state, for each sequence and layer."""
    return ceil_div(L * b * (conv * w + recurrent * FP32_BITS), BITS_PER_BYTE)


@formula(unit=TOKENS, cite="Kwon et al. 2023, arXiv 2309.06180, section 4; vLLM v1/core/kv_cache_utils.py")
def paged_tokens(s: Any, B: Any) -> Any:
    """Tokens that the blocks of a paged cache have room for: s, rounded up to whole blocks of B."""
    return round_up(s, B)


@formula(
    unit=TOKENS,
    cite="vLLM v1/core/single_type_kv_cache_manager.py, SlidingWindowManager.get_num_skipped_tokens",
    assumes=("blocks that lie wholly before the window are freed",),
)
def paged_window_tokens(s: Any, W: Any, B: Any) -> Any:
    """Tokens in the blocks that a window of W still touches once s > W tokens have been seen."""
    return round_up(s, B) - (s - W + 1) // B * B


@formula(
    unit=BYTES,
    cite="Hooper et al. 2024, arXiv 2401.18079, section 2; codes, and a scale for each group of numbers",
    assumes=("symmetric: no zero points",),
)
def grouped_bytes(n: Any, w: Any, g: Any, w_scale: Any) -> Any:
    """n codes of w bits and one scale of w_scale bits for each g of them."""
    return ceil_div(n * w, BITS_PER_BYTE) + ceil_div(ceil_div(n, g) * w_scale, BITS_PER_BYTE)


@formula(
    unit=BYTES,
    cite="transformers cache_utils.py, QuantoQuantizedLayer and HQQQuantizedLayer; Liu et al. 2024, arXiv 2402.02750",
    assumes=("the scale and the zero point of a group are kept in 16 bits",),
)
def quantized_cache_bytes(n: Any, n_residual: Any, w: Any, g: Any, w_16: Any) -> Any:
    """n codes of w bits with a scale and a zero point for each group of g, and a residual of n_residual numbers."""
    return ceil_div(n * w + 2 * ceil_div(n, g) * w_16 + n_residual * w_16, BITS_PER_BYTE)


@formula(unit=MACS, cite="counting: step t runs over m + t - 1 tokens, whose mask leaves n(n+1)/2 pairs")
def uncached_score_macs(w: Any, m: Any, T: Any) -> Any:
    """Multiply-adds of scores and values where every token recomputes its prefix; w: of a query-key pair."""
    return w * (tetrahedral(m + T - 1) - tetrahedral(m - 1))


def tetrahedral(n: Any) -> Any:
    """Sum of k(k+1)/2 for k = 1..n."""
    return n * (n + 1) * (n + 2) // 6


@formula(unit=MACS, cite="counting: P weights multiply m + t - 1 tokens at step t, the output matrix the last of them")
def uncached_weight_macs(P: Any, P_out: Any, m: Any, T: Any) -> Any:
    """Multiply-adds of the weights where every token recomputes its prefix."""
    return P * (T * m + T * (T - 1) // 2) + P_out * T


@formula(unit=MACS, cite="counting: the prompt once, then one token at a time")
def cached_score_macs(w: Any, m: Any, T: Any) -> Any:
    """Multiply-adds of scores and values with a cache: every pair of the m + T - 1 tokens once."""
    return w * ((m + T - 1) * (m + T) // 2)


@formula(unit=MACS, cite="counting: each token passes the weights once, the output matrix for each generated one")
def cached_weight_macs(P: Any, P_out: Any, m: Any, T: Any) -> Any:
    """Multiply-adds of the weights with a cache."""
    return P * (m + T - 1) + P_out * T


def pooled_numbers(s: Any, m: Any, d_c: Any, o: Any) -> Any:
    """Numbers in the cache's width that a sequence holds of pooled keys: the keys, and the values and gates of the
    tokens that fill no window yet; with overlap (o = 1) those are twice as wide, and the last window's values stay."""
    whole = s // m
    return whole * d_c + (s - whole * m) * 2 * (1 + o) * d_c + o * minimum(whole, 1) * m * d_c


@formula(unit=BYTES, cite="DeepSeek-V4; transformers 5.24 modeling_deepseek_v4.py, DeepseekV4HCACache and CSACache")
def pooled_cache_bytes(L: Any, b: Any, s: Any, m: Any, d_c: Any, o: Any, w_kv: Any) -> Any:
    """One key of d_c numbers for each m tokens, the tokens that fill no window yet, and where windows overlap (o = 1)
    the last one's values, and its gates in fp32."""
    gates = o * minimum(s // m, 1) * m * d_c
    return ceil_div(L * b * (pooled_numbers(s, m, d_c, o) * w_kv + gates * FP32_BITS), BITS_PER_BYTE)
