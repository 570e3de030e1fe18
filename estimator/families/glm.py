"""GLM-4 (9B): grouped-query attention with q/k/v biases and interleaved partial rotary, gate and up in one
matrix.

Source: transformers 5, models/glm/modeling_glm.py and configuration_glm.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, gqa, read_dims, rotary_width
from estimator.families.gguf import Gguf

LAYER = "model.layers.{i}"


GGUF = {"glm": Gguf("chatglm", packed=True)}


def build(c: Config) -> Architecture:
    """GLM from its config."""
    D = read_dims(c, 4096, 32, 13696, 151552, 40, h_kv=2, d_h=128)
    attention = gqa(
        f"{LAYER}.self_attn", D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", True), out_bias=False,
        rope_dim=rotary_width(c, D.d_h, 0.5), rope_style="interleaved", rotary="joined",
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), names=("gate_up_proj", "down_proj"))
    norms = (Norm(f"{LAYER}.input_layernorm", D.d), Norm(f"{LAYER}.post_attention_layernorm", D.d))
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),),
        (Layer(D.L, attention, mlp, norms, ("input", "pre_mlp")),), (Norm("model.norm", D.d),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 131072),
    )  # fmt: skip
