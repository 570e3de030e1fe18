"""Helium: Llama's layer with interleaved rotary embedding, norms whose weight is applied in fp32, and an output matrix
of d x d without bias.

Source: transformers 5, models/helium/modeling_helium.py and configuration_helium.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Linear
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense


def build(c: Config) -> Architecture:
    """Helium from its config."""
    D = read_dims(c, 2560, 20, 7040, 48000, 24, h_kv=20, d_h=128)
    bias = c.flag("attention_bias", False)
    attention = gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=bias, rope_style="interleaved", pairs=True)
    attention = attention._replace(out=Linear(f"{ATTN}.o_proj", D.d, D.d))
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), c.flag("mlp_bias", False))
    return dense(c, D, lambda kind: attention, mlp, positions=4096, norm="rms_late")
