"""MiniCPM: Llama's layer with multipliers on the embeddings, the branches and the logits; MiniCPM 3 with a latent
cache.

MiniCPM 1, 2 and 4 are remote code (4's sparse attention is not counted: it runs as the dense one); MiniCPM 3 is a class
of transformers. Source: openbmb/MiniCPM-2B-sft-bf16, modeling_minicpm.py; transformers 5.24, models/minicpm3.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, PRE
from estimator.families.deepseek_v2 import latent_attention
from estimator.families.gguf import Gguf

LATENT = (768, 256, 64, 32, 64)  # MiniCPM 3: q_lora_rank, kv_lora_rank, widths of a head
GGUF = {"minicpm": Gguf("minicpm"), "minicpm3": Gguf("minicpm3", whole_mla=True)}


def build(c: Config) -> Architecture:
    """MiniCPM from its config."""
    third = c.raw.get("model_type") == "minicpm3"
    if c.raw.get("num_experts"):
        raise InputError(f"{c.where}: MiniCPM's experts (num_experts) are not described")
    D = read_dims(c, 2560, 40, 6400, 73448, 62) if third else read_dims(c, 4096, 32, 11008, 32000, 32)
    bias = c.flag("attention_bias", False)
    attention = (latent_attention(c, D.d, D.h, "half", LATENT) if third
                 else gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=bias))  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), third and c.flag("mlp_bias", False))
    layer = Layer(D.L, attention, mlp, PRE.norms(D.d), PRE.roles, residual_scale=True)
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), (layer,), (Norm("model.norm", D.d),), V=D.V, d=D.d, L=D.L,
        tied=c.flag("tie_word_embeddings", True),
        positions=c.plain("max_position_embeddings", 32768 if third else 2048),
        facts={"embed_scale": True, "logit_scale": True},
    )  # fmt: skip
