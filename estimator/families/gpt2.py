"""GPT-2: learned positions, LayerNorm, a fused Conv1D projection, a plain MLP.

Source: transformers 5, models/gpt2/modeling_gpt2.py and configuration_gpt2.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, POSITION, Architecture, Attention, Classes, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, no_cross_attention
from estimator.families.common_gguf import Gguf

LAYER = "transformer.h.{i}"


GGUF = {"gpt2": Gguf("gpt2")}


def build(c: Config) -> Architecture:
    """GPT-2 from its config."""
    no_cross_attention(c)
    d = c.size("n_embd|hidden_size", 768, letter="hidden_size")
    h = c.size("n_head|num_attention_heads", 12, letter="num_attention_heads")
    c.divides(h, d, "n_head", "n_embd")
    L = c.size("n_layer|num_hidden_layers", 12, letter="num_hidden_layers")
    V = c.size("vocab_size", 50257)
    positions = c.size("n_positions|max_position_embeddings", 1024, letter="max_position_embeddings")
    d_ff = c.size("n_inner|intermediate_size", 4 * d, letter="intermediate_size")
    attention = Attention(
        projections=(Linear(f"{LAYER}.attn.c_attn", d, 3 * d, True, conv1d=True),),
        out=Linear(f"{LAYER}.attn.c_proj", d, d, True, conv1d=True),
        heads=h, kv_heads=h, head_dim=d // h, position="learned", rope_style="none", softmax="scores",
    )  # fmt: skip
    up = Linear(f"{LAYER}.mlp.c_fc", d, d_ff, True, conv1d=True)
    down = Linear(f"{LAYER}.mlp.c_proj", d_ff, d, True, conv1d=True)
    mlp = MLP(
        (up, down), d_ff, c.text("activation_function", "gelu_new"), gated=False,
    )  # fmt: skip
    norms = (Norm(f"{LAYER}.ln_1", d, "layer", True), Norm(f"{LAYER}.ln_2", d, "layer", True))
    tables = (Lookup("transformer.wte", V, d), Lookup("transformer.wpe", positions, d, POSITION))
    return decoder(
        c, tables, (Layer(L, attention, mlp, norms, ("input", "pre_mlp"), keeps=("branch",)),),
        (Norm("transformer.ln_f", d, "layer", True),), V=V, d=d, L=L,
        tied=c.flag("tie_word_embeddings", True), positions=int(positions), classes=Classes(tokens="classifier"),
        residual_dropout=("resid_pdrop", 0.1), dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    )  # fmt: skip
