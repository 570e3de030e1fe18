"""Code World Model: Llama's layer, one of full attention to three with a sliding window.

Source: transformers 5, models/cwm/modeling_cwm.py and configuration_cwm.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common import FULL, SLIDING, gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense, sliding

PERIOD = 4


def build(c: Config) -> Architecture:
    """CWM from its config."""
    D = read_dims(c, 6144, 48, 21504, 128256, 64, h_kv=8, d_h=128)
    kinds, window = sliding(c, D.L, 8192, lambda i: SLIDING if i % PERIOD else FULL)
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), c.flag("mlp_bias", False))
    return dense(
        c, D, lambda kind: gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, window=window(kind)), mlp, kinds=kinds, positions=131072
    )  # fmt: skip
