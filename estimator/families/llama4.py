"""Llama 4's text model: three layers of chunked attention with rotary embedding to a full one without; a sigmoid
router of one expert a token, with a shared expert, in every or every second layer.

Source: transformers 5, models/llama4/modeling_llama4.py and configuration_llama4.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import EXPERT, MLP, ROUTER, Architecture, Attention, Extra, Layer, Linear, MoE, Norm
from estimator.families.common import FULL, gated_mlp, gqa, layer_count, layer_groups
from estimator.families.common_dense import ATTN, LAYER
from estimator.families.common_gguf import Gguf, Router
from estimator.families.common_moe import DENSE, MOE, attention_sizes, decoder, expert_sizes, optional_size, pre_norms

GGUF = {
    "llama4_text": Gguf("llama4", windows=True, rope_tables=1, router=Router("sigmoid", normed=False, first=True)),
}
CHUNKED = "chunked_attention"
AT = f"{LAYER}.feed_forward"


def build(c: Config) -> Architecture:
    """Llama 4's text model from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 5120, 40, 8, head_dim=128)
    L = c.size("num_hidden_layers", 48)
    E, k = expert_sizes(c, "num_local_experts", 16, 1)
    width, act = c.size("intermediate_size", 8192), c.text("hidden_act", "silu")
    mlps: dict[str, MLP | MoE] = {
        MOE: MoE(
            experts=(
                Extra(f"{AT}.experts.gate_up_proj", (E, d, 2 * width), EXPERT),
                Extra(f"{AT}.experts.down_proj", (E, width, d), EXPERT),
            ),
            router=(Linear(f"{AT}.router", d, E, role=ROUTER),),
            num=E, per_token=k, width=width, d=d, act=act, transposed=True, router_linear=True,
            shared=gated_mlp(f"{AT}.shared_expert", d, width, act), shared_first=True,
        ),
        DENSE: gated_mlp(AT, d, c.size("intermediate_size_mlp", 16384), act),
    }  # fmt: skip
    bias, normed = c.flag("attention_bias", False), c.flag("use_qk_norm", True)
    chunk = optional_size(c, "attention_chunk_size", 8192)

    def mixer(kind: str, rope: bool) -> Attention:
        norms = tuple(Norm(f"{ATTN}.{n}_norm", d_h, affine=False) for n in "qk") if normed and rope else ()
        return gqa(
            ATTN, d, h, h_kv, d_h, bias=bias, chunk=chunk if kind == CHUNKED else None, norms=norms, normed="rotated",
            position="rope" if rope else "none", rope_style="complex" if rope else "none",
            query_scale="" if rope else "rotated",
        )  # fmt: skip

    layers = tuple(
        Layer(times, mixer(kind, rope), mlps[what], *pre_norms(LAYER, d), indices=at)
        for (kind, rope, what), times, at in layer_groups(kinds_of(c, layer_count(c, L)), L, c.traced)
    )
    return decoder(c, layers, d, L, 202048, 131072)


def kinds_of(c: Config, n: int) -> list[tuple[str, bool, str]]:
    """(attention, with rotary embedding, experts or dense) of every layer."""
    period, step = c.plain("no_rope_layer_interval", 4, least=1), c.plain("interleave_moe_layer_step", 1, least=1)
    rope = c.items("no_rope_layers") or [int((i + 1) % period != 0) for i in range(n)]
    types = c.items("layer_types") or [CHUNKED if x else FULL for x in rope]
    sparse = c.items("moe_layers")
    sparse = list(range(step - 1, n, step)) if sparse is None else sparse
    if len(rope) < n or len(types) < n:
        raise InputError(f"{c.where}: no_rope_layers and layer_types must name each of the {n} layers")
    for kind in types:
        if kind not in (FULL, CHUNKED):
            raise InputError(f"{c.where}: layer_types must be {FULL!r} or {CHUNKED!r}, got {str(kind)[:40]!r}")
    return [(types[i], bool(rope[i]), MOE if i in sparse else DENSE) for i in range(n)]
