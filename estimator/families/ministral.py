"""Ministral and Ministral 3: Mistral's layer; the first with a kind of attention a layer, the second with queries
scaled by their position.

Source: transformers 5, models/ministral and models/ministral3, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention
from estimator.families.common import FULL, SLIDING, gated_mlp, gqa, read_dims, window_size
from estimator.families.common_dense import ATTN, LAYER, dense, sliding
from estimator.families.common_gguf import SEVENTY_GROUPED, Gguf

GGUF = {"ministral3": Gguf("mistral3", quantizer=(SEVENTY_GROUPED,))}


def build(c: Config) -> Architecture:
    """Ministral or Ministral 3 from its config."""
    third = c.raw.get("model_type") == "ministral3"
    V, L, d_h = (131072, 34, 128) if third else (32000, 32, None)
    D = read_dims(c, 4096, 32, 14336, V, L, h_kv=8, d_h=d_h)
    every = window_size(c, None if third else 4096)
    kinds = [FULL if every is None else SLIDING] if third else sliding(c, D.L, 4096, lambda i: SLIDING)[0]

    def mixer(kind: str) -> Attention:
        window = every if kind == SLIDING else None
        return gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, window=window, query_scale="rotated" if third else "")

    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    return dense(c, D, mixer, mlp, kinds=kinds, positions=262144 if third else 131072)
