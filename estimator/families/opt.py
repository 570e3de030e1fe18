"""OPT: learned positions (two rows more than positions), LayerNorm, biases, a plain ReLU MLP.

OPT-350m: embeddings of half the width with projections in and out, norms after the additions, no final norm.
Source: transformers 5, models/opt/modeling_opt.py and configuration_opt.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import POSITION, Architecture, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, gqa, plain_mlp

LAYER = "model.decoder.layers.{i}"
OFFSET = 2  # OPTLearnedPositionalEmbedding.offset


def build(c: Config) -> Architecture:
    """OPT from its config."""
    d = c.size("hidden_size", 768)
    h = c.size("num_attention_heads", 12)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    L, V = c.size("num_hidden_layers", 12), c.size("vocab_size", 50272)
    d_ff = c.size("ffn_dim", 3072, letter="intermediate_size")
    positions = c.size("max_position_embeddings", 2048)
    d_emb = c.size("word_embed_proj_dim", d, letter="embedding_size")
    projected = d_emb != d
    d_emb = d_emb if projected else d
    bias, affine = c.flag("enable_bias", True), c.flag("layer_norm_elementwise_affine", True)
    before = c.flag("do_layer_norm_before", True)

    def norm(name: str) -> Norm:
        return Norm(name, d, "layer", True, affine)

    attention = gqa(
        f"{LAYER}.self_attn", d, h, h, d // h, bias=bias, names=("q_proj", "k_proj", "v_proj", "out_proj"),
        position="learned", query_scale="projected",
    )  # fmt: skip
    mlp = plain_mlp(LAYER, d, d_ff, c.text("activation_function", "relu"), bias)
    layer = Layer(
        L, attention, mlp, (norm(f"{LAYER}.self_attn_layer_norm"), norm(f"{LAYER}.final_layer_norm")),
        ("input", "pre_mlp") if before else ("post_mixer", "post_mlp"), "pre" if before else "post",
    )  # fmt: skip
    inward: tuple[Any, ...] = (Linear("model.decoder.project_in", d_emb, d),) if projected else ()
    outward: tuple[Any, ...] = (Linear("model.decoder.project_out", d, d_emb),) if projected else ()
    last = (norm("model.decoder.final_layer_norm"),) if before and not c.flag("_remove_final_layer_norm", False) else ()
    tables = (
        Lookup("model.decoder.embed_tokens", V, d_emb),
        Lookup("model.decoder.embed_positions", positions + OFFSET, d, POSITION),
    )
    return decoder(
        c, (*tables, *inward), (layer,), (*last, *outward), V=V, d=d, L=L, head_width=d_emb,
        residual_dropout=("dropout", 0.1), dropouts=("dropout",), drops_by_call=True,
        tied=c.flag("tie_word_embeddings", True), positions=int(positions),
    )  # fmt: skip
