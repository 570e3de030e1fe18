"""MPNet: BERT's layers with one table of relative position biases for all of them.

Source: transformers 5, models/mpnet/modeling_mpnet.py and configuration_mpnet.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import OTHER, POSITION, Architecture, Layer, Lookup, Weight
from estimator.families.common import gqa
from estimator.families.common_encoder import CLASSIFIERS, DROPOUTS, bert_mlp, built_class, encoder, norm, roberta_heads

PADDING = 2  # rows of the position table that are never reached: positions count from the padding token's number + 1


def build(c: Config) -> Architecture:
    """MPNet from its config; ``architectures`` tells which head it has, and whether a pooler."""
    suffix = built_class(c, "MPNet", "ForMaskedLM", ("Model", *CLASSIFIERS))
    top = "" if suffix == "Model" else "mpnet."
    d, L, V = c.size("hidden_size", 768), c.size("num_hidden_layers", 12), c.size("vocab_size", 30527)
    h, d_ff = c.size("num_attention_heads", 12), c.size("intermediate_size", 3072)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    rows, at = c.size("max_position_embeddings", 512), f"{top}encoder.layer.{{i}}"
    tables = (
        Lookup(f"{top}embeddings.word_embeddings", V, d),
        Lookup(f"{top}embeddings.position_embeddings", rows, d, POSITION),
        norm(f"{top}embeddings.LayerNorm", d),
    )
    attention = gqa(
        f"{at}.attention.attn", d, h, h, d // h, bias=True, names=("q", "k", "v", "o"), position="relative",
        causal=False, softmax="scores", sdpa=False,
    )  # fmt: skip
    norms = (norm(f"{at}.attention.LayerNorm", d), norm(f"{at}.output.LayerNorm", d))
    mlp = bert_mlp(c, at, d, d_ff)
    layer = Layer(L, attention, mlp, norms, ("post_mixer", "post_mlp"), wiring="post", side="encoder")
    pooler, fields = roberta_heads(c, suffix, top, d, V)
    buckets = c.size("relative_attention_num_buckets", 32)
    bias = Weight(f"{top}encoder.relative_attention_bias.weight", (buckets, h), 1, OTHER)
    return encoder(
        c, suffix, tables, (layer,), V, d, L, pooler, extra_weights=(bias,),
        max_positions=max(int(rows) - PADDING, 1), dropouts=DROPOUTS, **fields,
    )  # fmt: skip
