"""BioGPT and XGLM: GPT-2's layer with separate projections, scaled embeddings, and positions that are learned (BioGPT:
two rows more than positions) or sines in a buffer (XGLM).

Source: transformers 5, models/biogpt and models/xglm, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import POSITION, Architecture, Buffer, Layer, Lookup, Norm
from estimator.families.common import decoder, gqa, no_cross_attention, plain_mlp
from estimator.families.common_encoder import DROPOUTS

OFFSET = 2  # rows before the first position
F32 = 4  # bytes of a number in XGLM's table


def build(c: Config) -> Architecture:
    """BioGPT or XGLM from its config."""
    bio = c.raw.get("model_type") == "biogpt"
    top = "biogpt" if bio else "model"
    no_cross_attention(c)
    d = c.size("hidden_size|d_model", 1024, letter="hidden_size")
    h = c.size("num_attention_heads|attention_heads", 16, letter="num_attention_heads")
    c.divides(h, d, "num_attention_heads", "hidden_size")
    L = c.size("num_hidden_layers|num_layers", 24, letter="num_hidden_layers")
    V = c.size("vocab_size", 42384 if bio else 256008)
    positions = c.plain("max_position_embeddings", 1024 if bio else 2048)
    layer = f"{top}.layers.{{i}}"
    attention = gqa(
        f"{layer}.self_attn", d, h, h, d // h, bias=True, names=("q_proj", "k_proj", "v_proj", "out_proj"),
        position="learned", sdpa=bio, softmax="scores", floored=not bio,
    )  # fmt: skip
    mlp = plain_mlp(
        layer, d, c.size("intermediate_size" if bio else "ffn_dim", 4096, letter="intermediate_size"),
        c.text("hidden_act" if bio else "activation_function", "gelu"),
    )  # fmt: skip
    norms = tuple(Norm(f"{layer}.{n}_layer_norm", d, "layer", True) for n in ("self_attn", "final"))
    scaled = c.flag("scale_embedding", True)
    tables = (Lookup(f"{top}.embed_tokens", V, d),)
    rows = positions + OFFSET
    return decoder(
        c, (*tables, Lookup(f"{top}.embed_positions", rows, d, POSITION)) if bio else tables,
        (Layer(L, attention, mlp, norms, ("input", "pre_mlp")),), (Norm(f"{top}.layer_norm", d, "layer", True),),
        V=V, d=d, L=L, tied=c.flag("tie_word_embeddings", True), positions=positions,
        residual_dropout=("hidden_dropout_prob" if bio else "dropout", 0.1), drops_by_call=True,
        dropouts=DROPOUTS if bio else ("dropout", "attention_dropout"),
        facts={"embed_scale": "table" if scaled else False, "drops": {} if bio else {"embedding": "dropout"}},
        constants=() if bio else (Buffer("sines and cosines", (rows, d), F32),),
        head_name="output_projection" if bio else "lm_head",
    )  # fmt: skip
