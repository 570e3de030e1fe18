"""OLMo 1 and 2. OLMo 1: Llama's layer with LayerNorms that have no weights. OLMo 2: RMSNorms over q and k as
a whole, and after the attention and the MLP, on the branch, with none before them.

Source: transformers 5, models/olmo and models/olmo2, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, gqa, read_dims
from estimator.families.gguf import Gguf

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"


GGUF = {"olmo": Gguf("olmo"), "olmo2": Gguf("olmo2")}


def build(c: Config) -> Architecture:
    """OLMo 1 or 2 from its config."""
    second = c.raw.get("model_type") == "olmo2"
    D = read_dims(c, 4096, 32, 11008, 50304, 32)
    kind, affine = ("rms_late", True) if second else ("none", False)
    names = ("post_attention", "post_feedforward") if second else ("input", "post_attention")
    norms = tuple(Norm(f"{LAYER}.{n}_layernorm", D.d, kind, affine=affine) for n in names)
    widths = (("q", D.h * D.d_h), ("k", D.h_kv * D.d_h)) if second else ()
    qk_norms = tuple(Norm(f"{ATTN}.{n}_norm", width, kind) for n, width in widths)
    attention = gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), norms=qk_norms)
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    layer = Layer(
        D.L, attention, mlp, norms, ("post_mixer", "post_mlp") if second else ("input", "pre_mlp"),
        wiring="post" if second else "pre", branch_norms=second,
    )  # fmt: skip
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), (layer,),
        (Norm("model.norm", D.d, kind, affine=affine),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 2048),
        facts={"clip_qkv": not second and c.raw.get("clip_qkv") is not None},
    )  # fmt: skip
