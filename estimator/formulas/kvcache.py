"""Formulas of the key-value cache and of recurrent states."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.ops import ceil_div
from estimator.units import BITS_PER_BYTE, BYTES

FP32_BITS = 32


@formula(
    unit=BYTES,
    cite="Pope et al. 2022, arXiv 2211.05102, section 2; transformers cache_utils.py, DynamicLayer",
    assumes=("every layer of the group holds the same tokens",),
)
def kv_cache_bytes(L: Any, b: Any, s: Any, h_kv: Any, d_h: Any, d_v: Any, w_kv: Any) -> Any:
    """One key of d_h and one value of d_v numbers for each token, key/value head and layer; w_kv bits a number."""
    return ceil_div(L * b * s * h_kv * (d_h + d_v) * w_kv, BITS_PER_BYTE)


@formula(
    unit=BYTES, cite="DeepSeek-V2, arXiv 2405.04434, section 2.1.2; transformers modeling_deepseek_v3.py"
)
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
