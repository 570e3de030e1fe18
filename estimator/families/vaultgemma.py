"""VaultGemma: Gemma 2's soft-capped attention and windows, with norms before the branches alone.

Source: transformers 5, models/vaultgemma/modeling_vaultgemma.py and configuration_vaultgemma.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention
from estimator.families.common import every, gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, PRE, dense, sliding

CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}  # the class's defaults


def build(c: Config) -> Architecture:
    """VaultGemma from its config."""
    D = read_dims(c, 2304, 8, 9216, 256000, 26, h_kv=4, d_h=256)
    kinds, window = sliding(c, D.L, 4096, every(2))
    scores, logits = (c.raw.get(name, default) is not None for name, default in CAPS.items())
    bias = c.flag("attention_bias", False)

    def mixer(kind: str) -> Attention:
        return gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=bias, window=window(kind), softcap=scores)

    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_activation", "gelu_pytorch_tanh"))
    frame = PRE._replace(names=("input_layernorm", "pre_feedforward_layernorm"))
    return dense(
        c, D, mixer, mlp, kinds=kinds, frame=frame, norm="rms_plus1", tied=True, positions=8192,
        facts={"embed_scale": "table", "logit_softcap": logits},
    )  # fmt: skip
