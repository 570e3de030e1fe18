"""GPT-J: one LayerNorm for an attention and a plain MLP side by side, interleaved partial rotary embedding.

Source: transformers 5, models/gptj/modeling_gptj.py and configuration_gptj.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Buffer, Classes, Layer, Lookup, Norm
from estimator.families.common import decoder, gqa, plain_mlp

LAYER = "transformer.h.{i}"
F32 = 4  # bytes of a number in the table


def build(c: Config) -> Architecture:
    """GPT-J from its config. The head has a bias."""
    d = c.size("n_embd|hidden_size", 4096, letter="hidden_size")
    h = c.size("n_head|num_attention_heads", 16, letter="num_attention_heads")
    c.divides(h, d, "n_head", "n_embd")
    L = c.size("n_layer|num_hidden_layers", 28, letter="num_hidden_layers")
    V = c.size("vocab_size", 50400)
    d_ff = c.size("n_inner|intermediate_size", 4 * d, letter="intermediate_size")
    rotary = c.plain("rotary_dim", 64, least=1)
    if rotary > d // h:
        raise InputError(f"{c.where}: rotary_dim={rotary} is larger than a head ({int(d // h)})")
    positions = c.plain("n_positions|max_position_embeddings", 2048)
    attention = gqa(
        f"{LAYER}.attn", d, h, h, d // h, names=("q_proj", "k_proj", "v_proj", "out_proj"),
        rope_dim=rotary, rope_style="interleaved", form="fp32_scores", sdpa=False, table=positions,
    )  # fmt: skip
    mlp = plain_mlp(f"{LAYER}.mlp", d, d_ff, c.text("activation_function", "gelu_new"), names=("fc_in", "fc_out"))
    norms = (Norm(f"{LAYER}.ln_1", d, "layer", True),)
    layer = Layer(L, attention, mlp, norms, ("input",), "parallel", keeps=("probs",))
    return decoder(
        c, (Lookup("transformer.wte", V, d),), (layer,),
        (Norm("transformer.ln_f", d, "layer", True),), V=V, d=d, L=L, head_bias=True,
        tied=c.flag("tie_word_embeddings", False), positions=positions,
        residual_dropout=("resid_pdrop", 0.0), classes=Classes(answers=True),
        constants=(Buffer("sines and cosines", (positions, rotary), F32, L),),
    )  # fmt: skip
