"""StarCoder 2: rotary grouped-query attention, LayerNorms, a plain MLP, biases, and one window for all
layers.

Source: transformers 5, models/starcoder2/modeling_starcoder2.py and configuration_starcoder2.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gqa, plain_mlp, read_dims, window_size
from estimator.families.common_gguf import Gguf

LAYER = "model.layers.{i}"


GGUF = {"starcoder2": Gguf("starcoder2")}


def build(c: Config) -> Architecture:
    """StarCoder 2 from its config. ``norm_type`` of the hub's configs is not read by the class: always
    LayerNorm."""
    D = read_dims(c, 3072, 24, 12288, 49152, 30, h_kv=2)
    bias = c.flag("use_bias", True)
    attention = gqa(f"{LAYER}.self_attn", D.d, D.h, D.h_kv, D.d_h, bias=bias, window=window_size(c, None))
    act = c.text("hidden_act", "gelu_pytorch_tanh")
    mlp = plain_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act, bias, ("c_fc", "c_proj"))
    names = ("input_layernorm", "post_attention_layernorm")
    norms = tuple(Norm(f"{LAYER}.{n}", D.d, "layer", True) for n in names)
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),),
        (Layer(D.L, attention, mlp, norms, ("input", "pre_mlp")),), (Norm("model.norm", D.d, "layer", True),),
        V=D.V, d=D.d, L=D.L,
        tied=c.flag("tie_word_embeddings", True), positions=c.plain("max_position_embeddings", 4096),
        residual_dropout=("residual_dropout", 0.0), drops_by_call=True,
    )  # fmt: skip
