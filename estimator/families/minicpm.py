"""MiniCPM: Llama's layer with multipliers on the embeddings, the branches and the logits; MiniCPM 3 with a latent
cache.

MiniCPM-MoE routes as Mixtral does; its experts are counted stacked, as transformers 5 holds Mixtral's, where its own
file has a w1, w2 and w3 for each. MiniCPM 1, 2 and 4 are remote code (4's sparse attention is not counted: it runs as
the dense one); MiniCPM 3 is a class of transformers. Source: openbmb/MiniCPM-2B-sft-bf16, modeling_minicpm.py;
transformers 5.24, models/minicpm3.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Layer, Lookup, MoE, Norm
from estimator.families.common import decoder, gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, PRE
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import expert_sizes, routed
from estimator.families.deepseek_v2 import latent_attention

LATENT = (768, 256, 64, 32, 64)  # MiniCPM 3: q_lora_rank, kv_lora_rank, widths of a head
GGUF = {"minicpm": Gguf("minicpm"), "minicpm3": Gguf("minicpm3", whole_mla=True)}


def build(c: Config) -> Architecture:
    """MiniCPM from its config."""
    third = c.raw.get("model_type") == "minicpm3"
    D = read_dims(c, 2560, 40, 6400, 73448, 62) if third else read_dims(c, 4096, 32, 11008, 32000, 32)
    bias = c.flag("attention_bias", False)
    attention = (latent_attention(c, D.d, D.h, "half", LATENT) if third
                 else gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=bias))  # fmt: skip
    act = c.text("hidden_act", "silu")
    mlp: MLP | MoE = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act, third and c.flag("mlp_bias", False))
    if c.raw.get("num_experts"):
        E, k = expert_sizes(c, "num_experts", None, 2)
        mlp = routed(f"{LAYER}.mlp", D.d, D.d_ff, E, k, act, routing="softmax_kept")
    layer = Layer(D.L, attention, mlp, PRE.norms(D.d), PRE.roles, residual_scale=True)
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), (layer,), (Norm("model.norm", D.d),), V=D.V, d=D.d, L=D.L,
        tied=c.flag("tie_word_embeddings", True),
        positions=c.plain("max_position_embeddings", 32768 if third else 2048),
        facts={"embed_scale": "stream", "logit_scale": True},
    )  # fmt: skip
