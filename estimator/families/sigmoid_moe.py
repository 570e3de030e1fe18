"""Dots 1, Solar Open, Hunyuan 3, EXAONE MoE and MiniMax M2: grouped-query attention, the first layers dense where
there are such, then experts chosen by sigmoid scores, with shared ones beside them.

Source: transformers 5, models/dots1, solar_open, hy_v3, exaone_moe and minimax_m2, modeling_*.py and
configuration_*.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Layer, MoE, Norm
from estimator.families.common import FULL, SLIDING, gated_mlp, gqa, layer_count, rotary_width
from estimator.families.common_dense import ATTN, LAYER, head_norms, sliding
from estimator.families.common_gguf import SIGMOID, Gguf
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    mlp_types,
    optional_size,
    pattern,
    pre_norms,
    routed,
)
from estimator.families.deepseek_v3 import correction_bias
from estimator.families.exaone4 import mixers

Kinds = tuple[list[str], Callable[[str], Attention]]  # of every layer, and the attention of a kind

GGUF = {
    "dots1": Gguf("dots1", router=SIGMOID),
    "solar_open": Gguf("glm4moe", router=SIGMOID),
    "exaone_moe": Gguf("exaone-moe", windows=True, router=SIGMOID),
    "hy_v3": Gguf("hy_v3", router=SIGMOID),
    "minimax_m2": Gguf("minimax-m2", router=SIGMOID),
}


def build(c: Config) -> Architecture:
    """One of them from its config."""
    kind = c.text("model_type", "")
    return {"dots1": dots, "solar_open": solar, "hy_v3": hunyuan, "exaone_moe": exaone, "minimax_m2": minimax}[kind](c)


def dots(c: Config) -> Architecture:
    """Dots 1; it has no defaults for its experts."""
    d, h, h_kv, d_h = attention_sizes(c, 4608, 32, 32, whole=False)
    first, last = c.plain("first_k_dense_replace", 0), c.plain("max_window_layers", 62)
    bias = c.flag("attention_bias", False)
    L = c.size("num_hidden_layers", 62)
    kinds, window = sliding(c, L, 4096, lambda i: SLIDING if i >= last else FULL)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", None, None)

    def mixer(kind: str) -> Attention:
        return gqa(ATTN, d, h, h_kv, d_h, bias=bias, norms=head_norms(d_h), window=window(kind))

    mlps = feeds(c, d, E, k, 1408, c.plain("n_shared_experts"), 10944)
    return stacked(c, d, L, (kinds, mixer), mlps, lambda i: MOE if i >= first else DENSE, E, 152064, 2048)


def solar(c: Config) -> Architecture:
    """Solar Open: experts in every layer."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 64, 8, head_dim=128)
    L = c.size("num_hidden_layers", 48)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 128, 8)
    attention = gqa(
        ATTN, d, h, h_kv, d_h, bias=c.flag("attention_bias", False), out_bias=False, rope_dim=rotary_width(c, d_h)
    )
    mlps = feeds(c, d, E, k, 1280, c.plain("n_shared_experts", 1), None)
    kinds = [FULL] * layer_count(c, L)
    return stacked(c, d, L, (kinds, lambda kind: attention), mlps, lambda i: MOE, E, 196608, 131072)


def hunyuan(c: Config) -> Architecture:
    """Hunyuan 3."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 64, 8, head_dim=128)
    L = c.size("num_hidden_layers", 80)
    E, k = expert_sizes(c, "num_experts|num_local_experts", 192, 8)
    attention = gqa(ATTN, d, h, h_kv, d_h, bias=c.flag("attention_bias", False), norms=head_norms(d_h))
    mlps = feeds(c, d, E, k, 1536, c.plain("num_shared_experts", 1), 13312, c.flag("mlp_bias", False))
    sparse = mlp_types(c, L, lambda i: MOE if i else DENSE)
    kinds = [FULL] * layer_count(c, L)
    return stacked(c, d, L, (kinds, lambda kind: attention), mlps, sparse, E, 120832, 131072, name="mlp")


def exaone(c: Config) -> Architecture:
    """EXAONE MoE: EXAONE 4's attention, norms before the branches."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, 32)
    L, first = c.size("num_hidden_layers", 32), c.plain("first_k_dense_replace", 1)
    E, k = expert_sizes(c, "num_experts|num_local_experts", 64, 8)
    mlps = feeds(c, d, E, k, 1024, c.plain("num_shared_experts", 1), 16384)
    sparse = mlp_types(c, L, lambda i: MOE if i >= first else DENSE)
    return stacked(c, d, L, mixers(c, L, d, h, h_kv, d_h), mlps, sparse, E, 102400, 2048)


def minimax(c: Config) -> Architecture:
    """MiniMax M2: experts in every layer, none shared; norms over q and k as a whole."""
    d, h, h_kv, d_h = attention_sizes(c, 3072, 48, 8, head_dim=128)
    L = c.size("num_hidden_layers", 62)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 256, 8)
    norms = (Norm(f"{ATTN}.q_norm", h * d_h), Norm(f"{ATTN}.k_norm", h_kv * d_h))
    rotary = optional_size(c, "rotary_dim")
    attention = gqa(
        ATTN, d, h, h_kv, d_h, norms=norms, rope_dim=rotary_width(c, d_h) if rotary is None else rotary, rotary="joined"
    )
    width, act = c.size("intermediate_size", 1536), c.text("hidden_act", "silu")
    mlps: dict[str, MLP | MoE] = {MOE: routed(f"{LAYER}.mlp", d, width, E, k, act, routing="sigmoid_groups")}
    kinds = [FULL] * layer_count(c, L)
    return stacked(c, d, L, (kinds, lambda kind: attention), mlps, lambda i: MOE, E, 200064, 196608, name="mlp")


def feeds(
    c: Config, d: Any, E: Any, k: Any, width: int, shared: int, dense: int | None, bias: bool = False
) -> dict[str, MLP | MoE]:
    """The experts, with ``shared`` ones beside them, and the dense MLP where there is one; the class's defaults."""
    at, act = f"{LAYER}.mlp", c.text("hidden_act", "silu")
    w = c.size("moe_intermediate_size", width)
    beside = gated_mlp(f"{at}.shared_experts", d, shared * w, act, bias)
    out: dict[str, MLP | MoE] = {MOE: routed(at, d, w, E, k, act, routing="sigmoid_groups", shared=beside)}
    if dense is not None:
        out[DENSE] = gated_mlp(at, d, c.size("intermediate_size", dense), act, bias)
    return out


def stacked(
    c: Config, d: Any, L: Any, mixed: Kinds, mlps: dict[str, MLP | MoE], sparse: Callable[[int], str], E: Any, V: int,
    positions: int, name: str = "mlp.gate",
) -> Architecture:  # fmt: skip
    """The decoder; ``name``: the module that holds the correction of the choice."""
    kinds, mixer = mixed
    layers = pattern(
        c, L,
        lambda i: (kinds[i if len(kinds) > 1 else 0], sparse(i)),
        lambda kind: Layer(1, mixer(kind[0]), mlps[kind[1]], *pre_norms(LAYER, d)),
    )  # fmt: skip
    return decoder(c, layers, d, L, V, positions, buffers=correction_bias(layers, E, name))
