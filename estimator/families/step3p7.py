"""Step 3.7: a tower with layer scales and two convolutions that halve its grid, and a text model whose windowed layers
have heads of their own number, a gate a head, and sigmoid-routed experts from the fourth layer on.

Source: transformers 5, models/step3p7/modeling_step3p7.py and configuration_step3p7.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Layer, Linear, Lookup, MoE
from estimator.families.common import SLIDING, gated_mlp, gqa, layer_count, layer_groups
from estimator.families.common_dense import ATTN, LAYER, head_norms, sliding
from estimator.families.common_gguf import SIGMOID, Gguf, said_of_experts
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    mlp_types,
    pre_norms,
    routed,
)
from estimator.families.common_tower import alone, layer_norm, pair, part, patch_conv, patches, vit_layer, wrapped
from estimator.families.deepseek_v3 import correction_bias
from estimator.families.towers import Conv, ImageGrid, Tower
from estimator.inventory import POSITION

GGUF = {"step3p5": Gguf("step35", windows=True, router=SIGMOID._replace(normed=False))}
FIRST_SPARSE = 3  # the class's first layer with experts


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The tower in module ``prefix``; each convolution at its end makes one vector of four."""
    at = f"{prefix}." if prefix else ""
    d = c.plain("width|hidden_size", 1536, least=1)
    size, patch = pair(c, "image_size", 728), pair(c, "patch_size", 14)
    layers = vit_layer(
        c, f"{at}layers.{{i}}", d, int(d * c.number("mlp_ratio", 8960 / 1536)),
        c.plain("layers|num_hidden_layers", 47, least=1), c.text("hidden_act", "quick_gelu"),
        heads="heads|num_attention_heads", norms=("layernorm_before", "layernorm_after"),
        extras=("lambda_1", "lambda_2"), position="rope",
    )  # fmt: skip
    stem = (
        patch_conv(f"{at}embeddings.patch_embedding", c, d, patch, bias=False),
        Lookup(f"{at}embeddings.position_embedding", patches(size, patch), d, POSITION),
        layer_norm(f"{at}pre_layernorm", d),
    )
    bridge = (
        Conv(f"{at}downsampler1", d, 2 * d, (3, 3), rows=4, steps=4),
        Conv(f"{at}downsampler2", 2 * d, 4 * d, (3, 3), steps=4),
    )
    return Tower("vision", stem, (layers,), (), bridge, ImageGrid(size, patch, 4, tokens=tokens))


def heads_of(c: Config, h: Any, L: int, kinds: list[str]) -> list[Any]:
    """Query heads of every layer: ``per_layer_config``, else those of all windowed layers."""
    own = c.raw.get("per_layer_config")
    if isinstance(own, Mapping):
        found = {int(k): v.get("num_attention_heads") for k, v in own.items() if str(k).isdigit() and _has(v)}
        return [found.get(i) or h for i in range(L)]
    other = c.raw.get("attention_other_setting")
    named = other.get("num_attention_heads") if isinstance(other, Mapping) else None
    windowed = c.raw.get("num_sliding_attention_heads") or named or int(h)
    if isinstance(windowed, bool) or not isinstance(windowed, int) or windowed < 1:
        raise InputError(f"{c.where}: num_sliding_attention_heads must be a size, got {str(windowed)[:40]!r}")
    return [windowed if kind == SLIDING and windowed != h else h for kind in kinds]


def _has(value: Any) -> bool:
    heads = value.get("num_attention_heads") if isinstance(value, Mapping) else None
    return isinstance(heads, int) and not isinstance(heads, bool) and heads > 0


def limited(c: Config, name: str, n: int) -> list[bool]:
    """Whether each of n layers has a bound of its activations: a list, whose 0 and null are none."""
    given = c.raw.get(name) or []
    if not isinstance(given, list) or not all(x is None or isinstance(x, int | float) for x in given):
        raise InputError(f"{c.where}: {name} must list a bound for each layer, got {str(given)[:40]!r}")
    return [bool(given[i]) if i < len(given) else False for i in range(n)]


def text_of(c: Config) -> Architecture:
    """The text model as a causal language model."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 64, 8, head_dim=128)
    L = c.size("num_hidden_layers", 45)
    n = layer_count(c, L)
    kinds, window = sliding(c, L, None, lambda i: "full_attention")
    kinds = [kinds[i] for i in range(n)]
    sparse = mlp_types(c, L, lambda i: MOE if i >= FIRST_SPARSE else DENSE)
    E, k = expert_sizes(c, "n_routed_experts|moe_num_experts|num_local_experts", 288, 8)
    bias, m_bias, act = c.flag("attention_bias", False), c.flag("mlp_bias", False), c.text("hidden_act", "silu")
    at, shared = f"{LAYER}.mlp", c.size("share_expert_dim|share_expert_dims", 1280)
    bounds, near = (limited(c, name, n) for name in ("swiglu_limits", "swiglu_limits_shared"))

    def mixer(kind: str, heads: Any) -> Attention:
        return gqa(
            ATTN, d, heads, h_kv, d_h, bias=bias, norms=head_norms(d_h), window=window(kind),
            out_gate=Linear(f"{ATTN}.g_proj", d, heads),
        )  # fmt: skip

    wide, narrow = c.size("intermediate_size", 11264), c.size("moe_intermediate_size", 1280)

    def mlp(kind: str, bounded: bool, bounded_near: bool) -> MLP | MoE:
        if kind == DENSE:
            return gated_mlp(at, d, wide, act, m_bias)._replace(limited=bounded_near)
        beside = gated_mlp(f"{at}.shared_experts", d, shared, act, m_bias)._replace(limited=bounded_near)
        return routed(at, d, narrow, E, k, act, routing="sigmoid_groups", shared=beside, limited=bounded)

    heads = heads_of(c, h, n, kinds)
    each = [(kinds[i], heads[i], (sparse(i), bounds[i], near[i])) for i in range(n)]
    layers = tuple(
        Layer(times, mixer(kind, of), mlp(*what), *pre_norms(LAYER, d), indices=where)
        for (kind, of, what), times, where in layer_groups(each, L, c.traced)
    )
    weights = said_of_experts(c, "norm_expert_weight", "moe_router_scaling_factor")
    return decoder(c, layers, d, L, 128815, 128000, buffers=correction_bias(layers, E), facts=weights)


def build(c: Config) -> Architecture:
    """The whole model, its text or its tower alone."""
    kind = c.text("model_type", "")
    if kind == "step3p5_vision":
        return alone(c, tower(c, ""))
    if kind == "step3p5":
        return text_of(c)
    text, vision = part(c, "text_config", "step3p5"), part(c, "vision_config", "step3p5_vision")
    tied = {"tie_word_embeddings": c.flag("tie_word_embeddings", False), "architectures": None}
    inner = Config({**text.raw, **tied}, c.traced, text.where)
    made, seen = text_of(inner), tower(vision, "model.vision_model")
    c.heed(inner)
    width = seen.bridge[-1].d_out
    matrix = Linear("model.multi_modal_projector", width, made.hidden, c.flag("projector_bias", False))
    return wrapped(c, made, (seen._replace(bridge=(*seen.bridge, matrix)),))
