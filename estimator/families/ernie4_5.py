"""ERNIE 4.5, dense and with experts: Llama's layer with an interleaved rotary embedding in fp32; where there are
experts, shared ones beside them, and a correction of the choice that is a parameter.

Source: transformers 5, models/ernie4_5 and models/ernie4_5_moe, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Extra, Layer, MoE
from estimator.families.common import FULL, gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import DENSE, MOE, attention_sizes, decoder, expert_sizes, pattern, pre_norms, routed

GGUF = {"ernie4_5": Gguf("ernie4_5"), "ernie4_5_moe": Gguf("ernie4_5-moe")}


def attention_of(d: object, h: object, h_kv: object, d_h: object, bias: bool) -> Attention:
    """The attention of both."""
    return gqa(ATTN, d, h, h_kv, d_h, bias=bias, rope_style="interleaved", pairs=True, rotary="fp32")


def build(c: Config) -> Architecture:
    """ERNIE 4.5 from its config."""
    bias, act = c.flag("use_bias", False), c.text("hidden_act", "silu")
    if c.raw.get("model_type") != "ernie4_5":
        return with_experts(c, bias, act)
    D = read_dims(c, 1024, 16, 3072, 103424, 18, h_kv=2, d_h=128)
    attention = attention_of(D.d, D.h, D.h_kv, D.d_h, bias)
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act, bias)
    return dense(c, D, lambda kind: attention, mlp, positions=131072, tied=True)


def with_experts(c: Config, bias: bool, act: str) -> Architecture:
    """Experts in every ``moe_layer_interval``-th layer from ``moe_layer_start_index`` to ``moe_layer_end_index``."""
    d, h, h_kv, d_h = attention_sizes(c, 2560, 20, 4, whole=False)
    L = c.size("num_hidden_layers", 28)
    E, k = expert_sizes(c, "moe_num_experts|num_experts", 64, 6, chosen="moe_k|num_experts_per_tok")
    width, shared = c.size("moe_intermediate_size", 1536), c.plain("moe_num_shared_experts", 2)
    at = f"{LAYER}.mlp"
    moe = routed(
        at, d, width, E, k, act, routing="softmax_biased",
        shared=gated_mlp(f"{at}.shared_experts", d, shared * width, act, bias), shared_first=True,
    )  # fmt: skip
    correction = Extra(f"{at}.gate.moe_statics.e_score_correction_bias", (1, E))
    mlps: dict[str, MLP | MoE] = {
        MOE: moe._replace(router=(*moe.router, correction)),
        DENSE: gated_mlp(at, d, c.size("intermediate_size", 12288), act, bias),
    }
    first, every = c.plain("moe_layer_start_index", 1), c.plain("moe_layer_interval", 1, least=1)
    last = c.raw.get("moe_layer_end_index", -1)
    last = int(L) - 1 if last in (None, -1) else c.plain("moe_layer_end_index")
    attention = attention_of(d, h, h_kv, d_h, bias)
    layers = pattern(
        c, L,
        lambda i: (FULL, MOE if (i + 1) % every == 0 and first <= i <= last else DENSE),
        lambda kind: Layer(1, attention, mlps[kind[1]], *pre_norms(LAYER, d)),
    )  # fmt: skip
    return decoder(c, layers, d, L, 103424, 131072, tied=True, head_bias=bias)
