"""CodeGen: GPT-J's layer with one projection to q, v and k.

Source: transformers 5, models/codegen/modeling_codegen.py and configuration_codegen.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Buffer, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, plain_mlp
from estimator.families.common_moe import optional_size

LAYER = "transformer.h.{i}"
F32 = 4  # bytes of a number in the table


def build(c: Config) -> Architecture:
    """CodeGen from its config. The head has a bias."""
    d = c.size("n_embd|hidden_size", 4096, letter="hidden_size")
    h = c.size("n_head|num_attention_heads", 16, letter="num_attention_heads")
    c.divides(h, d, "n_head", "n_embd")
    L = c.size("n_layer|num_hidden_layers", 28, letter="num_hidden_layers")
    V, d_h = c.size("vocab_size", 50400), d // h
    inner = optional_size(c, "n_inner", letter="intermediate_size")
    rotary = optional_size(c, "rotary_dim", 64)
    attention = Attention(
        projections=(Linear(f"{LAYER}.attn.qkv_proj", d, 3 * d),),
        out=Linear(f"{LAYER}.attn.out_proj", d, d),
        heads=h, kv_heads=h, head_dim=d_h, rope_dim=d_h if rotary is None else rotary, rope_style="interleaved",
        form="fp32_scores", sdpa=False,
    )  # fmt: skip
    positions = c.plain("n_positions|max_position_embeddings", 2048)
    act = c.text("activation_function", "gelu_new")
    mlp = plain_mlp(f"{LAYER}.mlp", d, 4 * d if inner is None else inner, act, names=("fc_in", "fc_out"))
    norms = (Norm(f"{LAYER}.ln_1", d, "layer", True),)
    layer = Layer(L, attention, mlp, norms, ("input",), "parallel", keeps=("probs",))
    return decoder(
        c, (Lookup("transformer.wte", V, d),), (layer,), (Norm("transformer.ln_f", d, "layer", True),), V=V, d=d, L=L,
        head_bias=True, tied=c.flag("tie_word_embeddings", False), positions=positions,
        residual_dropout=("resid_pdrop", 0.0),
        constants=(Buffer("sines and cosines", (positions, d if rotary is None else rotary), F32, L),),
    )  # fmt: skip
