"""Falcon: one key and value head (7B, 1B), groups of them (40B, 180B) or all; ALiBi or rotary; attention and
MLP side by side after one or two LayerNorms, or one after the other.

Source: transformers 5, models/falcon/modeling_falcon.py and configuration_falcon.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Classes, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, plain_mlp
from estimator.families.common_gguf import FALCON, MIXER, MLP_OUT, RESIDUAL, Gguf

LAYER = "transformer.h.{i}"
ATTN = f"{LAYER}.self_attention"


GGUF = {"falcon": Gguf("falcon", quantizer=(FALCON,), parallel=(MLP_OUT, MIXER, RESIDUAL))}


def build(c: Config) -> Architecture:
    """Falcon from its config (``n_embed`` is the older spelling of ``hidden_size``, and wins)."""
    d = c.size("n_embed|hidden_size", 4544, letter="hidden_size")
    L, V = c.size("num_hidden_layers", 32), c.size("vocab_size", 65024)
    d_ff = c.size("ffn_hidden_size", 4 * d, letter="intermediate_size")
    bias, alibi = c.flag("bias", False), c.flag("alibi", False)
    mlp = plain_mlp(f"{LAYER}.mlp", d, d_ff, c.text("activation", "gelu"), bias, ("dense_h_to_4h", "dense_4h_to_h"))
    mlp = mlp._replace(linears=tuple(x._replace(subclass=True) for x in mlp.linears))
    names, roles, wiring = _norms(c)
    norms = tuple(Norm(f"{LAYER}.{n}", d, "layer", True) for n in names)
    return decoder(
        c, (Lookup("transformer.word_embeddings", V, d),),
        (Layer(L, _attention(c, d, bias, alibi), mlp, norms, roles, wiring, keeps=("probs",)),),
        (Norm("transformer.ln_f", d, "layer", True),), V=V, d=d, L=L,
        tied=c.flag("tie_word_embeddings", True),
        positions=None if alibi else c.plain("max_position_embeddings", 2048),
        residual_dropout=("hidden_dropout", 0.0), drops_by_call=True,
        classes=Classes(tokens="classifier"), linear_class="FalconLinear",
    )  # fmt: skip


def _attention(c: Config, d: int, bias: bool, alibi: bool) -> Attention:
    """The new decoder stores ``num_kv_heads`` groups, but broadcasts them to all heads before caching."""
    h = c.size("num_attention_heads", 71)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    d_h = d // h
    new = c.flag("new_decoder_architecture", False)
    h_kv = h
    if new:
        h_kv = c.size("num_kv_heads|num_key_value_heads", h, letter="num_key_value_heads")
        c.divides(h_kv, h, "num_kv_heads", "num_attention_heads")
    elif c.flag("multi_query", True):
        h_kv = 1
    return Attention(
        projections=(Linear(f"{ATTN}.query_key_value", d, (h + 2 * h_kv) * d_h, bias, subclass=True),),
        out=Linear(f"{ATTN}.dense", d, d, bias, subclass=True),
        heads=h, kv_heads=h_kv, head_dim=d_h, cached_heads=h if new else None,
        position="alibi" if alibi else "rope", rope_dim=None if alibi else d_h,
        rope_style="none" if alibi else "half",
        form="broadcast", mask="always",
    )  # fmt: skip


def _norms(c: Config) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Names, roles and wiring of a layer's norms."""
    both = ("input", "pre_mlp")
    if not c.flag("parallel_attn", True):
        return ("post_attention_layernorm", "input_layernorm"), ("pre_mlp", "input"), "pre"
    default = 2 if c.flag("new_decoder_architecture", False) else 1
    if c.plain("num_ln_in_parallel_attn", default) == 2:
        return ("ln_attn", "ln_mlp"), both, "parallel"
    return ("input_layernorm",), both[:1], "parallel"
