"""Arcee's Trinity (AFMoE): norms before and after both branches, gated attention with q/k norms, three windowed layers
to a full one without rotary embedding; the first layers dense, then sigmoid-routed and shared experts.

Source: transformers 5, models/afmoe/modeling_afmoe.py and configuration_afmoe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Extra, Layer, Linear, MoE
from estimator.families.common import SLIDING, every, gated_mlp, gqa
from estimator.families.common_dense import ATTN, LAYER, NormSet, head_norms, sliding
from estimator.families.common_gguf import SIGMOID, Gguf
from estimator.families.common_moe import DENSE, MOE, attention_sizes, decoder, expert_sizes, pattern, routed

FRAME = NormSet(
    ("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
    ("input", "post_mixer", "pre_mlp", "post_mlp"),
    "sandwich",
)
GGUF = {"afmoe": Gguf("afmoe", windows=True, rows_last=True, router=SIGMOID)}


def build(c: Config) -> Architecture:
    """AFMoE from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2048, 16, None, head_dim=128)
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "num_experts", 64, 6)
    bias, act = c.flag("attention_bias", False), c.text("hidden_act", "silu")
    width = c.size("moe_intermediate_size", 1408)
    kinds, window = sliding(c, L, 1024, every(c.plain("global_attn_every_n_layers", 4, least=1)))

    def mixer(kind: str) -> Attention:
        return gqa(
            ATTN, d, h, h_kv, d_h, bias=bias, norms=head_norms(d_h), window=window(kind),
            position="rope" if kind == SLIDING else "none", out_gate=Linear(f"{ATTN}.gate_proj", d, h * d_h),
        )  # fmt: skip

    at = f"{LAYER}.mlp"
    moe = routed(
        at, d, width, E, k, act, router="router.gate", router_linear=True, routing="sigmoid_groups", shared_first=True,
        shared=gated_mlp(f"{at}.shared_experts", d, c.plain("num_shared_experts", 2) * width, act),
    )  # fmt: skip
    mlps: dict[str, MLP | MoE] = {
        MOE: moe._replace(router=(*moe.router, Extra(f"{at}.expert_bias", (E,)))),
        DENSE: gated_mlp(at, d, c.size("intermediate_size", 6144), act),
    }
    first = c.plain("num_dense_layers", 1)
    layers = pattern(
        c, L,
        lambda i: (kinds[i], MOE if i >= first else DENSE),
        lambda kind: Layer(1, mixer(kind[0]), mlps[kind[1]], FRAME.norms(d), FRAME.roles, FRAME.wiring),
    )  # fmt: skip
    scaled = "stream" if c.flag("mup_enabled", False) else False
    return decoder(c, layers, d, L, 200192, 16384, facts={"embed_scale": scaled})
