"""GPT-BigCode (StarCoder, SantaCoder): GPT-2 with torch Linears and, by default, one key and value head.

Source: transformers 5, models/gpt_bigcode/modeling_gpt_bigcode.py and configuration_gpt_bigcode.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import POSITION, Architecture, Attention, Buffer, Classes, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, no_cross_attention, plain_mlp
from estimator.families.common_gguf import Gguf

LAYER = "transformer.h.{i}"


GGUF = {"gpt_bigcode": Gguf("starcoder")}


def build(c: Config) -> Architecture:
    """GPT-BigCode from its config."""
    no_cross_attention(c)
    d = c.size("n_embd|hidden_size", 768, letter="hidden_size")
    h = c.size("n_head|num_attention_heads", 12, letter="num_attention_heads")
    c.divides(h, d, "n_head", "n_embd")
    L = c.size("n_layer|num_hidden_layers", 12, letter="num_hidden_layers")
    V = c.size("vocab_size", 50257)
    positions = c.size("n_positions|max_position_embeddings", 1024, letter="max_position_embeddings")
    d_ff = c.size("n_inner|intermediate_size", 4 * d, letter="intermediate_size")
    d_h = d // h
    h_kv = 1 if c.flag("multi_query", True) else h
    attention = Attention(
        projections=(Linear(f"{LAYER}.attn.c_attn", d, d + 2 * h_kv * d_h, True),),
        out=Linear(f"{LAYER}.attn.c_proj", d, d, True),
        heads=h, kv_heads=h_kv, head_dim=d_h, position="learned", rope_style="none",
    )  # fmt: skip
    act = c.text("activation_function", "gelu_pytorch_tanh")
    mlp = plain_mlp(f"{LAYER}.mlp", d, d_ff, act, names=("c_fc", "c_proj"))
    norms = (Norm(f"{LAYER}.ln_1", d, "layer", True), Norm(f"{LAYER}.ln_2", d, "layer", True))
    tables = (Lookup("transformer.wte", V, d), Lookup("transformer.wpe", positions, d, POSITION))
    return decoder(
        c, tables, (Layer(L, attention, mlp, norms, ("input", "pre_mlp"), keeps=("branch",)),),
        (Norm("transformer.ln_f", d, "layer", True),), V=V, d=d, L=L,
        tied=c.flag("tie_word_embeddings", True), positions=int(positions), classes=Classes(tokens="classifier"),
        residual_dropout=("resid_pdrop", 0.1), dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        constants=(Buffer("causal mask", (int(positions), int(positions)), 1),),
    )  # fmt: skip
