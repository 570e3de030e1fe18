"""StableLM: LayerNorms, partial rotary embedding, a gated MLP; optionally one norm for both branches, and a
LayerNorm for every single query and key head.

Source: transformers 5, models/stablelm/modeling_stablelm.py and configuration_stablelm.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, gqa, read_dims, rotary_width
from estimator.families.common_gguf import MIXER, MLP_OUT, RESIDUAL, Gguf

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"


GGUF = {"stablelm": Gguf("stablelm", parallel=(MLP_OUT, MIXER, RESIDUAL))}


def build(c: Config) -> Architecture:
    """StableLM from its config."""
    D = read_dims(c, 2560, 32, 6912, 50304, 32, h_kv=32)
    c.divides(D.h, D.d, "num_attention_heads", "hidden_size")
    d_h = D.d // D.h  # the class reads no head_dim
    qk_norms: tuple[Norm, ...] = ()
    if c.flag("qk_layernorm", False):
        qk_norms = tuple(
            Norm(f"{ATTN}.{n}_layernorm.norms.{{i}}", d_h, "layer", copies=heads)
            for n, heads in (("q", D.h), ("k", D.h_kv))
        )
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, d_h, bias=c.flag("use_qkv_bias", False), out_bias=False, norms=qk_norms,
        normed="transposed",
        rope_dim=rotary_width(c, d_h, 0.25), rotary="joined",
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    parallel = c.flag("use_parallel_residual", False)
    names, roles = ("input_layernorm", "post_attention_layernorm"), ("input", "pre_mlp")
    norms = tuple(Norm(f"{LAYER}.{n}", D.d, "layer", True) for n in names[: 1 if parallel else 2])
    layer = Layer(
        D.L, attention, mlp, norms, roles[: len(norms)], "parallel" if parallel else "pre", keeps=("input", "branch")
    )
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), (layer,), (Norm("model.norm", D.d, "layer", True),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 4096), residual_dropout=("hidden_dropout", 0.0),
    )  # fmt: skip
