"""Granite MoE: routed experts on every layer, in Granite MoE Shared an MLP beside them; embeddings, residual branches
and logits are multiplied by constants.

Source: transformers 5, models/granitemoe and models/granitemoeshared, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Layer
from estimator.families.common import gated_mlp, gqa
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import attention_sizes, decoder, expert_sizes, pre_norms, routed

LAYER = "model.layers.{i}"


GGUF = {"granitemoe": Gguf("granitemoe"), "granitemoeshared": Gguf("granitemoe", split=True)}


def shared_mlp(c: Config, d: Any, act: str, default: int = 0) -> MLP | None:
    """The MLP beside the experts, gate and up in one matrix; None where its width is 0."""
    width = c.size("shared_intermediate_size", default, least=0)
    names = ("input_linear", "output_linear")
    return gated_mlp(f"{LAYER}.shared_mlp", d, width, act, names=names) if width != 0 else None


def build(c: Config) -> Architecture:
    """Granite MoE from its config; ``shared_intermediate_size`` is read by Granite MoE Shared alone."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, None)
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 8, 2)
    attention = gqa(f"{LAYER}.self_attn", d, h, h_kv, d_h, bias=c.flag("attention_bias", False))
    act, shared = c.text("hidden_act", "silu"), None
    if c.raw.get("model_type") != "granitemoe":
        shared = shared_mlp(c, d, act)
    moe = routed(
        f"{LAYER}.block_sparse_moe", d, c.size("intermediate_size", 11008), E, k, act, router="router", shared=shared,
        routing="best_softmax_fp32",
    )  # fmt: skip
    layer = Layer(L, attention, moe, *pre_norms(LAYER, d), residual_scale=True)
    return decoder(c, (layer,), d, L, 32000, 2048, facts={"embed_scale": "stream", "logit_scale": True})
