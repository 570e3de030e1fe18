"""DeepSeek-V3: DeepSeek-V2's layers; the router's correction bias is a buffer. Multi-token-prediction layers are not
part of the built class.

Source: transformers 5, models/deepseek_v3/modeling_deepseek_v3.py and configuration_deepseek_v3.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Layer, MoE, Weight
from estimator.families.common_moe import decoder, expert_sizes
from estimator.families.deepseek_v2 import latent_attention, layers_of
from estimator.families.gguf import Gguf, Router

GGUF = {"deepseek_v3": Gguf("deepseek2", router=Router("sigmoid", normed=False, corrected=True))}


def correction_bias(layers: tuple[Layer, ...], E: Any) -> tuple[Weight, ...]:
    """The routers' ``e_score_correction_bias``: one number an expert, a persistent buffer, not a parameter."""
    name = "model.layers.{i}.mlp.gate.e_score_correction_bias"
    return tuple(Weight(name, (E,), x.times, layers=x.indices) for x in layers if isinstance(x.mlp, MoE))


def build(c: Config) -> Architecture:
    """DeepSeek-V3 from its config."""
    d, h = c.size("hidden_size", 7168), c.size("num_attention_heads", 128)
    L = c.size("num_hidden_layers", 61)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 256, 8)
    style = "interleaved" if c.flag("rope_interleave", True) else "half"
    attention = latent_attention(c, d, h, style)
    layers = layers_of(
        c, d, L, E, k, attention, False, "sigmoid_groups", d_ff=18432, d_moe=2048, shared=1, first=3
    )
    groups = (c.plain("n_group", 8, least=1), c.plain("topk_group", 4, least=1))
    return decoder(
        c, layers, d, L, 129280, 4096, buffers=correction_bias(layers, E), facts={"expert_groups": groups}
    )  # fmt: skip
