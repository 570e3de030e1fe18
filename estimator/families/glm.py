"""GLM-4 (9B): grouped-query attention with q/k/v biases and interleaved partial rotary, gate and up in one
matrix. GLM-4-0414 has norms after both branches too.

Source: transformers 5, models/glm and models/glm4, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common import gated_mlp, gqa, read_dims, rotary_width
from estimator.families.common_dense import LAYER, PRE, NormSet, dense
from estimator.families.common_gguf import Gguf

SANDWICH = NormSet(
    (*PRE.names, "post_self_attn_layernorm", "post_mlp_layernorm"),
    ("input", "pre_mlp", "post_mixer", "post_mlp"),
    "sandwich",
)


GGUF = {"glm": Gguf("chatglm", packed=True), "glm4": Gguf("glm4")}


def build(c: Config) -> Architecture:
    """GLM from its config."""
    D = read_dims(c, 4096, 32, 13696, 151552, 40, h_kv=2, d_h=128)
    attention = gqa(
        f"{LAYER}.self_attn", D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", True), out_bias=False,
        rope_dim=rotary_width(c, D.d_h, 0.5), rope_style="interleaved", pairs=True, rotary="joined",
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), names=("gate_up_proj", "down_proj"))
    frame = SANDWICH if c.raw.get("model_type") == "glm4" else PRE
    return dense(c, D, lambda kind: attention, mlp, frame=frame, positions=131072)
