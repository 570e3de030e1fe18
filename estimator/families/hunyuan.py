"""Hunyuan V1, dense and with experts: Llama's layer with norms on q and k after the rotary embedding; where there are
experts, a shared MLP beside them.

Source: transformers 5, models/hunyuan_v1_dense and models/hunyuan_v1_moe, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, MoE
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense, head_norms
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import expert_sizes, routed

GGUF = {"hunyuan_v1_dense": Gguf("hunyuan-dense"), "hunyuan_v1_moe": Gguf("hunyuan-moe")}


def build(c: Config) -> Architecture:
    """Hunyuan V1 from its config."""
    D = read_dims(c, 4096, 32, 11008, 290943, 32)
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), normed="rotated",
        norms=head_norms(D.d_h, names=("query_layernorm", "key_layernorm")),
    )  # fmt: skip
    act = c.text("hidden_act", "silu")
    mlp: MLP | MoE = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act)
    if c.raw.get("model_type") == "hunyuan_v1_moe":
        E, k = expert_sizes(c, "num_experts|num_local_experts", 1, 1, chosen="moe_topk|num_experts_per_tok")
        mlp = routed(
            f"{LAYER}.mlp", D.d, D.d_ff, E, k, act, router="gate.wg",
            shared=gated_mlp(f"{LAYER}.mlp.shared_mlp", D.d, D.d_ff, act), router_linear=True, shared_first=True,
        )  # fmt: skip
    return dense(c, D, lambda kind: attention, mlp, positions=2048)
