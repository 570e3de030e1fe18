"""DBRX: attention and experts each after a LayerNorm; one projection to q, k and v, clipped; the experts' weights
stored as one matrix of all experts.

Source: transformers 5, models/dbrx/modeling_dbrx.py and configuration_dbrx.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import EXPERT, ROUTER, Architecture, Attention, Extra, Layer, Linear, Lookup, MoE, Norm
from estimator.families.common import decoder
from estimator.families.common_gguf import Gguf

GGUF = {"dbrx": Gguf("dbrx")}
LAYER = "transformer.blocks.{i}"
AT = f"{LAYER}.norm_attn_norm"


def part(c: Config, name: str) -> Config:
    """``attn_config`` or ``ffn_config``."""
    given = c.raw.get(name) or {}
    if not isinstance(given, Mapping):
        raise InputError(f"{c.where}: {name} must be a mapping, got {str(given)[:40]!r}")
    return Config(given, c.traced, f"{c.where}: {name}")


def build(c: Config) -> Architecture:
    """DBRX from its config."""
    attn, ffn = part(c, "attn_config"), part(c, "ffn_config")
    d = c.size("d_model|hidden_size", 2048, letter="hidden_size")
    h = c.size("n_heads|num_attention_heads", 16, letter="num_attention_heads")
    c.divides(h, d, "n_heads", "d_model")
    L = c.size("n_layers|num_hidden_layers", 24, letter="num_hidden_layers")
    V, d_h = c.size("vocab_size", 32000), d // h
    h_kv = attn.size("kv_n_heads", 1, letter="num_key_value_heads")
    attention = Attention(
        projections=(Linear(f"{AT}.attn.Wqkv", d, d + 2 * h_kv * d_h),),
        out=Linear(f"{AT}.attn.out_proj", d, d),
        heads=h, kv_heads=h_kv, head_dim=d_h, rope_dim=d_h,
    )  # fmt: skip
    E, k = (ffn.size(f"moe_{n}", x, letter=y) for n, x, y in (
        ("num_experts", 4, "num_experts"), ("top_k", 1, "num_experts_per_tok")))  # fmt: skip
    width = ffn.size("ffn_hidden_size", 3584, letter="intermediate_size")
    inner = ffn.size("hidden_size", 6144)
    given = ffn.raw.get("ffn_act_fn") or {}
    act = str(given.get("name", "silu")) if isinstance(given, Mapping) else "silu"
    at = f"{LAYER}.ffn"
    moe = MoE(
        experts=tuple(Extra(f"{at}.experts.mlp.{n}", (E * width, inner), EXPERT) for n in ("w1", "v1", "w2")),
        router=(Linear(f"{at}.router.layer", inner, E, role=ROUTER),),
        num=E, per_token=k, width=width, d=inner, act=act, router_linear=True,
    )  # fmt: skip
    norms = tuple(Norm(f"{AT}.norm_{i}", d, "layer") for i in (1, 2))
    return decoder(
        c, (Lookup("transformer.wte", V, d),), (Layer(L, attention, moe, norms, ("input", "pre_mlp")),),
        (Norm("transformer.norm_f", d, "layer"),), V=V, d=d, L=L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_seq_len|max_position_embeddings", 2048), residual_dropout=("resid_pdrop", 0.0),
        facts={"clip_qkv": attn.raw.get("clip_qkv") is not None},
    )  # fmt: skip
