"""GTE v1.5 as its remote code has it (model_type ``new``): the layer of the GTE of transformers, with q, k and v in one
matrix and up and gate in one matrix, under other names.

Source: Alibaba-NLP/new-impl, modeling.py and configuration.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import TOKEN_TYPE, Architecture, Attention, Layer, Linear, Lookup
from estimator.families.common import gated_mlp
from estimator.families.common_encoder import built_class, encoder, labels, norm, prediction_head


def build(c: Config) -> Architecture:
    """The encoder from its config; ``architectures`` tells which head it has, and whether a pooler."""
    suffix = built_class(c, "New", "ForMaskedLM", ("Model", "ForSequenceClassification", "ForTokenClassification"))
    top = "" if suffix == "Model" else "new."
    d, L, V = c.size("hidden_size", 768), c.size("num_hidden_layers", 12), c.size("vocab_size", 30528)
    h, types = c.size("num_attention_heads", 12), c.size("type_vocab_size", 1, least=0)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    at = f"{top}encoder.layer.{{i}}"
    typed = (Lookup(f"{top}embeddings.token_type_embeddings", types, d, TOKEN_TYPE),) if types else ()
    tables = (Lookup(f"{top}embeddings.word_embeddings", V, d), *typed, norm(f"{top}embeddings.LayerNorm", d))
    attention = Attention(
        projections=(Linear(f"{at}.attention.qkv_proj", d, 3 * d, True),),
        out=Linear(f"{at}.attention.o_proj", d, d, True),
        heads=h, kv_heads=h, head_dim=d // h, rope_dim=d // h, causal=False,
    )  # fmt: skip
    act = c.text("hidden_act", "gelu")
    mlp = gated_mlp(f"{at}.mlp", d, c.size("intermediate_size", 3072), act, names=("up_gate_proj", "down_proj"))
    mlp = mlp._replace(linears=(mlp.linears[0], mlp.linears[1]._replace(bias=True)))
    norms = (norm(f"{at}.attn_ln", d), norm(f"{at}.mlp_ln", d))
    layer = Layer(L, attention, mlp, norms, ("post_mixer", "post_mlp"), wiring="post", side="encoder")
    fields: dict[str, Any] = {"final": ()}
    pooler: tuple[Any, ...] = ()
    if suffix == "ForMaskedLM":
        tied = c.flag("tie_word_embeddings", True)
        fields = prediction_head("lm_head.dense", "lm_head.norm", "lm_head.decoder", d, d, V, tied)
        fields["facts"] = {"head_act": act}
    elif suffix == "ForSequenceClassification":
        pooler = (Linear(f"{top}pooler.dense", d, d, True), Linear("classifier", d, labels(c), True))
    elif suffix == "ForTokenClassification":
        fields["final"] = (Linear("classifier", d, labels(c), True),)
    return encoder(
        c, suffix, tables, (layer,), V, d, L, pooler, max_positions=c.plain("max_position_embeddings", 8192), **fields
    )  # fmt: skip
