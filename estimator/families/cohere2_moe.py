"""Command A with experts (Cohere 2 MoE): Cohere 2's layer, attention and experts side by side after one norm.

Source: transformers 5, models/cohere2_moe/modeling_cohere2_moe.py and configuration_cohere2_moe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Layer, MoE, Norm
from estimator.families.common import FULL, SLIDING, gated_mlp, gqa
from estimator.families.common_dense import ATTN, LAYER, sliding
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    mlp_types,
    optional_size,
    pattern,
    routed,
)

NORM_KIND = "layer_fp32"


def build(c: Config) -> Architecture:
    """Cohere 2 MoE from its config; ``first_k_dense_replace`` layers are dense, with a pattern of their own."""
    d, h, h_kv, d_h = attention_sizes(c, 8192, 64, None, head_dim=128)
    L, first = c.size("num_hidden_layers", 40), c.plain("first_k_dense_replace", 0)
    before, period = (c.plain(f"{x}sliding_window_pattern", n, least=1) for x, n in (("prefix_dense_", 1), ("", 4)))

    def windowed(i: int) -> str:
        late = (i + 1) % before if i < first else (i - first + 1) % period
        return SLIDING if late else FULL

    kinds, window = sliding(c, L, 4096, windowed)
    E, k = expert_sizes(c, "num_experts", 8, 2)
    act, at, width = c.text("hidden_act", "silu"), f"{LAYER}.mlp", c.size("intermediate_size", 22528)
    beside = gated_mlp(f"{at}.shared_experts", d, c.plain("num_shared_experts", 0) * width, act)
    dense = optional_size(c, "prefix_dense_intermediate_size")
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(at, d, width, E, k, act, shared=beside),
        DENSE: gated_mlp(at, d, width if dense is None else dense, act),
    }
    bias = c.flag("attention_bias", False)

    def mixer(kind: str) -> Attention:
        rope = kind == SLIDING
        return gqa(
            ATTN, d, h, h_kv, d_h, bias=bias, window=window(kind),
            position="rope" if rope else "none", rope_style="interleaved" if rope else "none",
        )  # fmt: skip

    sparse = mlp_types(c, L, lambda i: DENSE if i < first else MOE)
    layers = pattern(
        c, L,
        lambda i: (kinds[i], sparse(i)),
        lambda kind: Layer(
            1, mixer(kind[0]), mlps[kind[1]], (Norm(f"{LAYER}.input_layernorm", d, NORM_KIND),), ("input",), "parallel"
        ),
    )  # fmt: skip
    norm = Norm("model.norm", d, NORM_KIND)
    return decoder(c, layers, d, L, 256000, 8192, tied=True, norm=norm, facts={"logit_scale": True})
