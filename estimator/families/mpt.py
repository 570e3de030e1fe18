"""MPT: ALiBi, LayerNorms without bias, fused q/k/v, a plain MLP of width 4d, no biases at all.

Source: transformers 5, models/mpt/modeling_mpt.py and configuration_mpt.py, which reads neither
``expansion_ratio`` nor ``no_bias``, ``learned_pos_emb``, ``norm_type`` or ``attn_config.attn_type``,
``qk_ln`` and ``alibi``.
"""

from __future__ import annotations

from collections.abc import Mapping

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Classes, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, plain_mlp
from estimator.families.common_gguf import Gguf

LAYER = "transformer.blocks.{i}"
UNREAD = {"expansion_ratio": 4, "no_bias": True}  # what the class builds whatever the config says
UNREAD_ATTENTION = {"attn_type": "multihead_attention", "qk_ln": False, "alibi": True}


GGUF = {"mpt": Gguf("mpt")}


def build(c: Config) -> Architecture:
    """MPT from its config."""
    d = c.size("d_model|hidden_size", 2048, letter="hidden_size")
    h = c.size("n_heads|num_attention_heads", 16, letter="num_attention_heads")
    c.divides(h, d, "n_heads", "d_model")
    L = c.size("n_layers|num_hidden_layers", 24, letter="num_hidden_layers")
    V = c.size("vocab_size", 50368)
    clip = _check(c)
    attention = Attention(
        projections=(Linear(f"{LAYER}.attn.Wqkv", d, 3 * d),),
        out=Linear(f"{LAYER}.attn.out_proj", d, d),
        heads=h, kv_heads=h, head_dim=d // h, position="alibi", rope_style="none",
        form="alibi_fp32", sdpa=False, mask="boolean",
    )  # fmt: skip
    mlp = plain_mlp(f"{LAYER}.ffn", d, 4 * d, "gelu", False, ("up_proj", "down_proj"))
    norms = (Norm(f"{LAYER}.norm_1", d, "layer"), Norm(f"{LAYER}.norm_2", d, "layer"))
    layer = Layer(L, attention, mlp, norms, ("input", "pre_mlp"), keeps=("probs",))
    return decoder(
        c, (Lookup("transformer.wte", V, d),), (layer,),
        (Norm("transformer.norm_f", d, "layer"),), V=V, d=d, L=L, tied=c.flag("tie_word_embeddings", True),
        positions=c.plain("max_seq_len", 2048), facts={"clip_qkv": clip},
        classes=Classes(tokens="classifier"),
    )  # fmt: skip


def _check(c: Config) -> bool:
    """Whether q, k, v are clipped; notes every switch that the class does not honour."""
    inner = c.raw.get("attn_config") or {}
    if not isinstance(inner, Mapping):
        raise InputError(f"{c.where}: attn_config must be a mapping, got {str(inner)[:40]!r}")
    for fields, built in ((c.raw, UNREAD), (inner, UNREAD_ATTENTION)):
        for name, value in built.items():
            if fields.get(name, value) != value:
                c.notes.append(f"{name}={fields[name]} is not read by transformers' MPT, which builds {name}={value}")
    return bool(inner.get("clip_qkv"))
