"""GPT-NeoX and Pythia: fused q/k/v, partial rotary embedding, two LayerNorms, attention and MLP side by side.

Source: transformers 5, models/gpt_neox/modeling_gpt_neox.py and configuration_gpt_neox.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Classes, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, plain_mlp, rotary_width
from estimator.families.common_gguf import Gguf

LAYER = "gpt_neox.layers.{i}"


GGUF = {"gpt_neox": Gguf("gptneox", rows_first=True)}


def build(c: Config) -> Architecture:
    """GPT-NeoX from its config."""
    d = c.size("hidden_size", 6144)
    h = c.size("num_attention_heads", 64)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    d_ff = c.size("intermediate_size", 24576)
    V, L = c.size("vocab_size", 50432), c.size("num_hidden_layers", 44)
    bias = c.flag("attention_bias", True)
    attention = Attention(
        projections=(Linear(f"{LAYER}.attention.query_key_value", d, 3 * d, bias),),
        out=Linear(f"{LAYER}.attention.dense", d, d, bias),
        heads=h, kv_heads=h, head_dim=d // h, rope_dim=rotary_width(c, d // h, 0.25, "rotary_pct"),
        rotary="joined", taken="heads",
    )  # fmt: skip
    act = c.text("hidden_act", "gelu")
    mlp = plain_mlp(f"{LAYER}.mlp", d, d_ff, act, names=("dense_h_to_4h", "dense_4h_to_h"))
    norms = tuple(Norm(f"{LAYER}.{n}", d, "layer", True) for n in ("input_layernorm", "post_attention_layernorm"))
    wiring = "parallel" if c.flag("use_parallel_residual", True) else "pre"
    return decoder(
        c, (Lookup("gpt_neox.embed_in", V, d),),
        (Layer(L, attention, mlp, norms, ("input", "pre_mlp"), wiring),),
        (Norm("gpt_neox.final_layer_norm", d, "layer", True),), V=V, d=d, L=L,
        tied=c.flag("tie_word_embeddings", False), positions=c.plain("max_position_embeddings", 2048),
        residual_dropout=("hidden_dropout", 0.0), classes=Classes(tokens="classifier"),
    )  # fmt: skip
