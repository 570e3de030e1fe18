"""gpt-oss: alternating sliding and full attention with a learned sink a head, and biased experts stored [in, out].

Source: transformers 5, models/gpt_oss/modeling_gpt_oss.py and configuration_gpt_oss.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import EXPERT, ROUTER, Architecture, Extra, Layer, Linear, MoE, Norm
from estimator.families.common import FULL, SLIDING, gqa
from estimator.families.common_gguf import Gguf, Router
from estimator.families.common_moe import (
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    optional_size,
    pattern,
    pre_norms,
)

LAYER = "model.layers.{i}"


GGUF = {"gpt_oss": Gguf("gpt-oss", windows=True, keeps_last=True, router=Router("chosen", normed=False))}


def experts(d: Any, width: Any, E: Any, k: Any) -> MoE:
    """The routed experts: weights [E, in, out] and biases; ``gate_up_proj`` interleaves gate and up."""
    at = f"{LAYER}.mlp.experts"
    return MoE(
        experts=(
            Extra(f"{at}.gate_up_proj", (E, d, 2 * width), EXPERT),
            Extra(f"{at}.gate_up_proj_bias", (E, 2 * width), EXPERT),
            Extra(f"{at}.down_proj", (E, width, d), EXPERT),
            Extra(f"{at}.down_proj_bias", (E, d), EXPERT),
        ),
        router=(Linear(f"{LAYER}.mlp.router", d, E, True, role=ROUTER),),
        num=E, per_token=k, width=width, d=d, act="clamped_swiglu", transposed=True, routing="best_softmax",
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """gpt-oss from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2880, 64, 8, head_dim=64)
    L = c.size("num_hidden_layers", 36)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 128, 4)
    window, bias = optional_size(c, "sliding_window", 128), c.flag("attention_bias", True)
    moe = experts(d, c.size("intermediate_size", 2880), E, k)
    attn = f"{LAYER}.self_attn"
    mixers = {
        t: gqa(
            attn, d, h, h_kv, d_h, bias=bias, sinks=True, extras=(Extra(f"{attn}.sinks", (h,)),),
            window=window if t == SLIDING else None, form="sinks", sdpa=False,
        )
        for t in (FULL, SLIDING)
    }  # fmt: skip
    types = layer_types(c, L, (FULL, SLIDING), lambda i: SLIDING if (i + 1) % 2 else FULL)
    norms = pre_norms(LAYER, d, "rms_late")
    layers = pattern(c, L, lambda i: (types[i], MOE), lambda kind: Layer(1, mixers[kind[0]], moe, *norms))
    return decoder(c, layers, d, L, 201088, 131072, norm=Norm("model.norm", d, "rms_late"))
