"""DeepSeek-V2: multi-head latent attention, the first layers dense, then routed and shared experts.

Keys and values are expanded from a latent of ``kv_lora_rank`` numbers a token, and one rotary key is shared by all
heads: that pair is all a cache needs to hold (DeepSeek-V2, arXiv:2405.04434, section 2.1).
Source: transformers 5, models/deepseek_v2/modeling_deepseek_v2.py and configuration_deepseek_v2.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Layer, Linear, MoE, Norm
from estimator.families.common import FULL, gated_mlp
from estimator.families.common_gguf import Gguf, Router
from estimator.families.common_moe import (
    DENSE,
    MOE,
    decoder,
    expert_sizes,
    optional_size,
    pattern,
    pre_norms,
    routed,
)

LAYER = "model.layers.{i}"
OTHER = "other"  # layers with an attention of their own


GGUF = {"deepseek_v2": Gguf("deepseek2", router=Router(normed=False))}
SIZES = (1536, 512, 128, 64, 128)  # the class's defaults of q_rank, kv_rank, nope, rope and v


def latent_attention(
    c: Config, d: Any, h: Any, rope_style: str, sizes: tuple[int | None, int, int, int, int] = SIZES,
    at: str = f"{LAYER}.self_attn", **fields: Any,
) -> Attention:
    """MLA: q through a rank (or directly, where q_lora_rank is null), k and v through the cached latent.

    sizes: the class's defaults of q_lora_rank, kv_lora_rank, the two widths of a query head and that of a value head.
    at: its module; fields: further fields of the Attention.
    """
    r_q, r_kv = optional_size(c, "q_lora_rank", sizes[0]), c.size("kv_lora_rank", sizes[1])
    nope, rope = c.size("qk_nope_head_dim", sizes[2]), c.size("qk_rope_head_dim", sizes[3], least=min(1, sizes[3]))
    v, bias = c.size("v_head_dim", sizes[4]), c.flag("attention_bias", False)
    attn, d_qk = at, nope + rope
    if r_q is None:
        queries: tuple[Linear, ...] = (Linear(f"{attn}.q_proj", d, h * d_qk),)
        norms: tuple[Norm, ...] = ()
    else:
        queries = (Linear(f"{attn}.q_a_proj", d, r_q, bias), Linear(f"{attn}.q_b_proj", r_q, h * d_qk))
        norms = (Norm(f"{attn}.q_a_layernorm", r_q),)
    return Attention(
        projections=(
            *queries,
            Linear(f"{attn}.kv_a_proj_with_mqa", d, r_kv + rope, bias),
            Linear(f"{attn}.kv_b_proj", r_kv, h * (nope + v)),
        ),
        out=Linear(f"{attn}.o_proj", h * v, d, bias),
        heads=h, kv_heads=h, head_dim=d_qk, v_head_dim=v, rope_dim=rope, rope_style=rope_style,
        norms=(*norms, Norm(f"{attn}.kv_a_layernorm", r_kv)),
        mla={"q_rank": r_q, "kv_rank": r_kv, "nope": nope, "rope": rope, "v": v}, **fields,
    )  # fmt: skip


def layers_of(
    c: Config,
    d: Any,
    L: Any,
    E: Any,
    k: Any,
    attention: Attention,
    bias: bool,
    routing: str,
    *,
    d_ff: int,
    d_moe: int,
    shared: int,
    first: int,
    sparse: Callable[[int], str] | None = None,
    other: tuple[Attention, frozenset[int]] | None = None,
    groups: tuple[Any, Any] = (1, 1),
) -> tuple[Layer, ...]:
    """The stack: dense below ``first_k_dense_replace``, experts above, or as ``sparse`` says; ``bias`` of the dense and
    shared MLPs; the numbers are the class's defaults. other: an attention of its own for some layers;
    groups: of experts, and those that a token may choose from."""
    act = c.text("hidden_act", "silu")
    width = c.size("moe_intermediate_size", d_moe)
    n_shared = c.size("n_shared_experts", shared, least=0)
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(
            f"{LAYER}.mlp", d, width, E, k, act,
            shared=gated_mlp(f"{LAYER}.mlp.shared_experts", d, n_shared * width, act, bias), routing=routing,
            groups=groups,
        ),
        DENSE: gated_mlp(f"{LAYER}.mlp", d, c.size("intermediate_size", d_ff), act, bias),
    }  # fmt: skip
    dense = c.plain("first_k_dense_replace", first)
    kind_of = sparse or (lambda i: MOE if i >= dense else DENSE)
    return pattern(
        c, L,
        lambda i: (OTHER if other is not None and i in other[1] else FULL, kind_of(i)),
        lambda kind: Layer(
            1, other[0] if other is not None and kind[0] == OTHER else attention, mlps[kind[1]], *pre_norms(LAYER, d)
        ),
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """DeepSeek-V2 from its config."""
    d, h = c.size("hidden_size", 4096), c.size("num_attention_heads", 32)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "n_routed_experts|num_experts|num_local_experts", 64, None)
    attention = latent_attention(c, d, h, "complex")
    bias = c.flag("mlp_bias", False)
    layers = layers_of(c, d, L, E, k, attention, bias, "softmax_fp32", d_ff=11008, d_moe=1407, shared=2, first=0)
    return decoder(c, layers, d, L, 102400, 2048)
