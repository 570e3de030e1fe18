"""Names and metadata of the GGUF architectures that came last: what :mod:`llamacpp_files` asks for them."""

from __future__ import annotations

import re

from estimator.engines.llamacpp.model import ordered
from estimator.families.base import Attention
from estimator.trace import value_of

NAMED = {"deepseek32": "glm-dsa"}  # architectures whose tensors gguf knows by another's
# the end of a checkpoint's name -> of the file's
ENDS = {
    r"forget_gate\.dt_bias": "ssm_dt.bias", r"forget_gate\.A_log": "ssm_a", r"forget_gate\.f_a_proj\.weight":
    "ssm_f_a.weight", r"forget_gate\.f_b_proj\.weight": "ssm_f_b.weight",
}  # fmt: skip


def renamed(arch, name, shape, block):
    """[(name in the file, shape)] where gguf's map lacks it; None where it does not."""
    if arch == "kimi-linear" and name.endswith("conv1d.weight"):
        each = (1, shape[0] // 3, 1, shape[-1])
        return [(f"{block}ssm_conv1d_{x}.weight", each) for x in "qkv"]
    for end, file in ENDS.items():
        if re.search(rf"\.{end}$", name):
            return [(f"{block}{file}", (shape[-2], 1) if file == "ssm_a" else shape)]
    return None


def metadata(name, arch, c):
    """What the loader asks for beside the common keys."""
    g, layers = c.get, ordered(arch)
    out = {}
    if name in ("deepseek2", "glm4moe", "deepseek32", "glm-dsa", "kimi-linear", "step35"):
        out |= {
            "expert_gating_func": 2, "expert_weights_scale": float(g("routed_scaling_factor") or 1.0),
            "leading_dense_block_count": g("first_k_dense_replace", 0), "expert_shared_count":
            g("n_shared_experts") or g("num_shared_experts") or 1, "expert_weights_norm": bool(g("norm_topk_prob")),
        }  # fmt: skip
    if name in ("deepseek2", "deepseek32", "glm-dsa"):
        out |= {"expert_group_count": g("n_group"), "expert_group_used_count": g("topk_group")}
    if name in ("deepseek32", "glm-dsa"):
        out |= {f"attention.indexer.{key}": g(field) for key, field in (
            ("head_count", "index_n_heads"), ("key_length", "index_head_dim"), ("top_k", "index_topk"))}  # fmt: skip
        if g("indexer_types"):
            out["attention.indexer.types"] = [x == "full" for x in c["indexer_types"]]
    if name == "kimi-linear":
        linear = g("linear_attn_config") or {}
        out |= {"ssm.conv_kernel": linear.get("short_conv_kernel_size", 4), "kda.head_dim": linear.get("head_dim"),
                "attention.head_count_kv": [int(isinstance(x.mixer, Attention)) for x in layers]}  # fmt: skip
    if name == "step35":
        each = [x.mixer for x in layers]
        out |= {
            "attention.head_count": [int(value_of(a.heads)) for a in each], "attention.head_count_kv":
            [int(value_of(a.kv_heads)) for a in each], "attention.sliding_window_pattern":
            [a.window is not None for a in each], "rope.freq_base_swa": 10000.0,
            "expert_shared_feed_forward_length": c["share_expert_dim"], "expert_weights_norm":
            bool(g("norm_expert_weight")), "expert_weights_scale": float(g("moe_router_scaling_factor") or 1.0),
        }  # fmt: skip
        for key, field in (("swiglu_clamp_exp", "swiglu_limits"), ("swiglu_clamp_shexp", "swiglu_limits_shared")):
            if g(field):
                out[key] = [float(x or 0) for x in c[field]]
    return out
