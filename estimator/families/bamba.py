"""Bamba, Granite 4 (Granite MoE Hybrid) and Falcon-H1: Mamba 2's mixer in place of most attentions, or beside each of
them (Falcon-H1), and an MLP after it; in Granite 4 experts with an MLP beside them.

Source: transformers 5, models/bamba, granitemoehybrid and falcon_h1, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Layer, Norm, StateSpace
from estimator.families.common import FULL, gated_mlp, gqa, layer_count, rotary_width
from estimator.families.common_gguf import HEADS_BY_LAYER, Gguf
from estimator.families.common_moe import (
    DENSE,
    MOE,
    SSM,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    pattern,
    pre_norms,
    routed,
)
from estimator.families.common_ssm import chunked, head_size
from estimator.families.granitemoe import shared_mlp

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"
LINEAR = "linear_attention"
AFTER = "pre_ff_layernorm"
GGUF = {
    "granitemoehybrid": Gguf("granitehybrid", split=True, quantizer=(HEADS_BY_LAYER,)),
    "falcon_h1": Gguf("falcon-h1", folded=True),
}


def mamba(c: Config, d: Any, inner: Any = None, normed: bool = True, out_bias: bool | None = None) -> StateSpace:
    """The Mamba 2 mixer of all three; ``inner``: its inner width where it is not ``mamba_expand`` times d."""
    h = c.size("mamba_n_heads", 128, letter="num_attention_heads")
    d_h = head_size(c, "mamba_d_head", c.plain("mamba_expand", 2, least=1) * d if inner is None else inner, h)
    return chunked(
        f"{LAYER}.mamba", d, h, d_h, c.size("mamba_d_state", 256, letter="state_size"),
        c.plain("mamba_n_groups", 1, least=1), c.size("mamba_d_conv", 4), c.plain("mamba_chunk_size", 256, least=1),
        c.text("hidden_act", "silu"), bias=c.flag("mamba_proj_bias", False),
        conv_bias=c.flag("mamba_conv_bias", True), normed=normed, out_bias=out_bias,
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """One of the three from its config."""
    kind = c.text("model_type", "")
    return {"bamba": bamba, "granitemoehybrid": granite, "falcon_h1": falcon}[kind](c)


def bamba(c: Config) -> Architecture:
    """Bamba: attention in the layers of ``attn_layer_indices`` alone."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, 8)
    L, act = c.size("num_hidden_layers", 32), c.text("hidden_act", "silu")
    mixers: dict[str, Attention | StateSpace] = {
        SSM: mamba(c, d),
        FULL: gqa(
            ATTN, d, h, h_kv, d_h, bias=c.flag("attention_bias", False), rope_dim=rotary_width(c, d_h, 0.5),
            rotary="joined",
        ),
    }  # fmt: skip
    full = frozenset(x for x in c.items("attn_layer_indices") or () if isinstance(x, int))
    mlp = gated_mlp(f"{LAYER}.feed_forward", d, c.size("intermediate_size", 14336), act, c.flag("mlp_bias", False))
    layers = pattern(
        c, L,
        lambda i: (FULL if i in full else SSM, DENSE),
        lambda kind: Layer(1, mixers[kind[0]], mlp, *pre_norms(LAYER, d, second=AFTER)),
    )  # fmt: skip
    return decoder(c, layers, d, L, 128000, 262144, norm=Norm("model.final_layernorm", d))


def granite(c: Config) -> Architecture:
    """Granite 4: no experts where ``num_local_experts`` is 0; rotary embedding where the config asks for it."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, None)
    L, act = c.size("num_hidden_layers", 32), c.text("hidden_act", "silu")
    rope = c.raw.get("position_embedding_type") == "rope"
    mixers: dict[str, Attention | StateSpace] = {
        SSM: mamba(c, d),
        FULL: gqa(
            ATTN, d, h, h_kv, d_h, bias=c.flag("attention_bias", False), position="rope" if rope else "none"
        ),
    }  # fmt: skip
    dense = shared_mlp(c, d, act, 1024)
    E = c.size("num_local_experts", 8, letter="num_experts", least=0)
    mlp: Any = dense
    if E != 0:
        E, k = expert_sizes(c, "num_local_experts", 8, 2)
        mlp = routed(
            f"{LAYER}.block_sparse_moe", d, c.size("intermediate_size", 11008), E, k, act, router="router", shared=dense
        )
    older = {"mamba": LINEAR, "attention": FULL}
    kinds = layer_types(c, L, (LINEAR, FULL, *older), lambda i: LINEAR)
    layers = pattern(
        c, L,
        lambda i: (FULL if older.get(kinds[i], kinds[i]) == FULL else SSM, MOE if E != 0 else DENSE),
        lambda kind: Layer(1, mixers[kind[0]], mlp, *pre_norms(LAYER, d), residual_scale=True),
    )  # fmt: skip
    return decoder(c, layers, d, L, 32000, 2048, facts={"embed_scale": "stream", "logit_scale": True})


def falcon(c: Config) -> Architecture:
    """Falcon-H1: attention and Mamba 2 side by side in every layer; the scan's norm is optional."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, 8)
    L, act = c.size("num_hidden_layers", 32), c.text("hidden_act", "silu")
    attention = gqa(ATTN, d, h, h_kv, d_h, bias=c.flag("attention_bias", False), query_scale="rotated")
    wide = None if "mamba_d_ssm" in c.raw and c.raw["mamba_d_ssm"] is None else c.size("mamba_d_ssm", 1024)
    mixer = mamba(c, d, wide, c.flag("mamba_rms_norm", False), c.flag("projectors_bias", False))
    mlp = gated_mlp(f"{LAYER}.feed_forward", d, c.size("intermediate_size", 14336), act, c.flag("mlp_bias", False))
    layer_count(c, L)
    layer = Layer(L, attention, mlp, *pre_norms(LAYER, d, second=AFTER), second=mixer)
    return decoder(
        c, (layer,), d, L, 128000, 8192, norm=Norm("model.final_layernorm", d),
        facts={"embed_scale": "stream", "logit_scale": True},
    )  # fmt: skip
