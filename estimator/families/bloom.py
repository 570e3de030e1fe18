"""BLOOM: ALiBi, a LayerNorm on the embeddings, fused q/k/v with biases, a plain MLP of width 4d.

Source: transformers 5, models/bloom/modeling_bloom.py and configuration_bloom.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Classes, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, plain_mlp
from estimator.families.common_gguf import Gguf

LAYER = "transformer.h.{i}"


GGUF = {"bloom": Gguf("bloom")}


def build(c: Config) -> Architecture:
    """BLOOM from its config (``n_embed`` is the older spelling of ``hidden_size``, and wins)."""
    d = c.size("n_embed|hidden_size", 64, letter="hidden_size")
    h = c.size("n_head|num_attention_heads", 8, letter="num_attention_heads")
    c.divides(h, d, "n_head", "hidden_size")
    L = c.size("n_layer|num_hidden_layers", 2, letter="num_hidden_layers")
    V = c.size("vocab_size", 250880)
    attn = f"{LAYER}.self_attention"
    attention = Attention(
        projections=(Linear(f"{attn}.query_key_value", d, 3 * d, True),),
        out=Linear(f"{attn}.dense", d, d, True),
        heads=h, kv_heads=h, head_dim=d // h, position="alibi", rope_style="none",
        form="alibi", sdpa=False,
    )  # fmt: skip
    mlp = plain_mlp(f"{LAYER}.mlp", d, 4 * d, "bloom_gelu", names=("dense_h_to_4h", "dense_4h_to_h"))
    norms = tuple(Norm(f"{LAYER}.{n}", d, "layer", True) for n in ("input_layernorm", "post_attention_layernorm"))
    table = Lookup("transformer.word_embeddings", V, d)
    table_norm = Norm("transformer.word_embeddings_layernorm", d, "layer", True)
    return decoder(
        c, (table, table_norm), (Layer(L, attention, mlp, norms, ("input", "pre_mlp"), keeps=("probs",)),),
        (Norm("transformer.ln_f", d, "layer", True),), V=V, d=d, L=L,
        tied=c.flag("tie_word_embeddings", True), positions=None,
        residual_dropout=("hidden_dropout", 0.0), drops_by_call=True, classes=Classes(tokens="classifier"),
        facts={"residual_from_norm": c.flag("apply_residual_connection_post_layernorm", False)},
    )  # fmt: skip
