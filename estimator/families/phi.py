"""Phi-1, 1.5 and 2: one LayerNorm for an attention and a plain MLP side by side, partial rotary, biases
everywhere.

Source: transformers 5, models/phi/modeling_phi.py and configuration_phi.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gqa, plain_mlp, read_dims, rotary_width
from estimator.families.common_gguf import MIXER, MLP_OUT, RESIDUAL, Gguf

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"


GGUF = {"phi": Gguf("phi2", scaled_queries=True, parallel=(MIXER, MLP_OUT, RESIDUAL))}


def build(c: Config) -> Architecture:
    """Phi from its config. The head has a bias."""
    D = read_dims(c, 2048, 32, 8192, 51200, 24)
    qk = c.flag("qk_layernorm", False)
    # the class sizes these norms by d/h even where head_dim says otherwise
    qk_norms = tuple(Norm(f"{ATTN}.{n}_layernorm", D.d // D.h, "layer", True) for n in "qk") if qk else ()
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h, bias=True, names=("q_proj", "k_proj", "v_proj", "dense"),
        norms=qk_norms, normed="transposed",
        rope_dim=rotary_width(c, D.d_h, 0.5), rotary="joined",
    )  # fmt: skip
    mlp = plain_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "gelu_new"))
    norms = (Norm(f"{LAYER}.input_layernorm", D.d, "layer", True),)
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),),
        (Layer(D.L, attention, mlp, norms, ("input",), "parallel"),),
        (Norm("model.final_layernorm", D.d, "layer", True),), V=D.V, d=D.d, L=D.L, head_bias=True,
        tied=c.flag("tie_word_embeddings", False), positions=c.plain("max_position_embeddings", 2048),
        residual_dropout=("resid_pdrop", 0.0),
    )  # fmt: skip
