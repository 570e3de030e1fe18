"""ERNIE 4.5 VL: a tower, a resampler over squares of patches and pairs of frames, and a text model with two sets of
routed experts, one for tokens of text and one for tokens of images.

Source: transformers 5, models/ernie4_5_vl_moe/modeling_ernie4_5_vl_moe.py and configuration_ernie4_5_vl_moe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Extra, Layer, Linear, MoE, Norm
from estimator.families.common import FULL, gated_mlp, gqa
from estimator.families.common_moe import DENSE, MOE, attention_sizes, decoder, expert_sizes, pattern, pre_norms, routed
from estimator.families.common_tower import CHANNELS, alone, layer_norm, pair, part, vit_layer, width_of, wrapped
from estimator.families.towers import ImageGrid, Tower

LAYER = "model.layers.{i}"


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The tower in module ``prefix``; patches come as vectors."""
    at = f"{prefix}." if prefix else ""
    d, patch = c.plain("hidden_size", 1280, least=1), pair(c, "patch_size", 14)
    first = Linear(f"{at}patch_embed.proj", c.plain("in_channels", CHANNELS, least=1) * patch[0] * patch[1], d)
    layers = vit_layer(
        c, f"{at}blocks.{{i}}", d, c.plain("intermediate_size", 4 * 1280, least=1),
        c.plain("depth|num_hidden_layers", 32, least=1), c.text("hidden_act", "quick_gelu"),
        heads="num_heads|num_attention_heads", attn="attn", qkv=("qkv", "proj"), norms=("norm1", "norm2"),
        position="rope",
    )  # fmt: skip
    grid = ImageGrid(None, patch, c.plain("spatial_merge_size", 2, least=1))
    return Tower("vision", (first,), (layers,), (layer_norm(f"{at}ln", d),), grid=grid)


def text_of(c: Config, tied: bool) -> Architecture:
    """The text model: a first dense layer, then layers with both sets of experts and shared ones for all tokens."""
    d, h, h_kv, d_h = attention_sizes(c, 2560, 20, 4)
    L, bias, act = c.size("num_hidden_layers", 28), c.flag("use_bias", False), c.text("hidden_act", "silu")
    E, k = expert_sizes(c, "moe_num_experts|num_experts|num_local_experts", 64, c.plain("moe_k", 6, least=1))
    widths = c.items("moe_intermediate_size") or [1536, 512]
    if len(widths) != 2 or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in widths):
        raise InputError(f"{c.where}: moe_intermediate_size must be two sizes, got {str(widths)[:40]!r}")
    shared_n, at = c.plain("moe_num_shared_experts", 2), f"{LAYER}.mlp"
    shared = gated_mlp(f"{at}.shared_experts", d, widths[0] * shared_n, act, bias)
    biases = [Extra(f"{at}.{m}_moe.gate.moe_statics.e_score_correction_bias", (1, E)) for m in ("text", "vision")]
    moe = routed(f"{at}.text_moe", d, widths[0], E, k, act, shared=shared)
    moe = moe._replace(router=(*moe.router, biases[0]))
    seen = routed(f"{at}.vision_moe", d, widths[1], E, k, act)
    mlps: dict[str, MLP | MoE] = {
        MOE: moe,
        DENSE: gated_mlp(at, d, c.size("intermediate_size", 12288), act, bias),
    }
    kinds = c.items("mlp_layer_types", int(L))
    attention = gqa(f"{LAYER}.self_attn", d, h, h_kv, d_h, bias=bias, rope_style="interleaved")

    def one(kind: tuple[str, str]) -> Layer:
        made = Layer(1, attention, mlps[kind[1]], *pre_norms(LAYER, d))
        return made._replace(extras=(*seen.experts, *_loose(seen), biases[1])) if kind[1] == MOE else made

    layers = pattern(c, L, lambda i: (FULL, DENSE if (kinds[i] == "dense" if kinds else i == 0) else MOE), one)
    return decoder(c, layers, d, L, 103424, 131072, tied=tied)


def _loose(moe: MoE) -> tuple[Extra, ...]:
    """The routers' weights as loose ones: tokens of text never meet them."""
    return tuple(Extra(w.name, w.shape, w.role) for r in moe.router for w in r.weights())


def build(c: Config) -> Architecture:
    """The whole model, its text or its tower alone."""
    kind = c.text("model_type", "")
    if kind.endswith("_vision"):
        return alone(c, tower(c, ""))
    if kind.endswith("_text"):
        return text_of(c, True)
    text, vision = part(c, "text_config", f"{kind}_text"), part(c, "vision_config", f"{kind}_vision")
    raw = {**text.raw, "tie_word_embeddings": c.flag("tie_word_embeddings", True), "architectures": None}
    inner = Config(raw, c.traced, text.where)
    made, seen = text_of(inner, True), tower(vision, "model.vision_tower")
    c.heed(inner)
    grid = seen.grid or ImageGrid(None, (1, 1))
    at, wide = "model.resampler_model", width_of(seen) * grid.merge**2
    frames = vision.plain("temporal_merge_size", 2, least=1)
    bridge = (
        Linear(f"{at}.spatial_linear.fc1", wide, wide, True), Linear(f"{at}.spatial_linear.fc2", wide, wide, True),
        layer_norm(f"{at}.spatial_linear.ln", wide),
        Linear(f"{at}.temporal_linear.fc1", wide * frames, wide, True),
        Linear(f"{at}.temporal_linear.fc2", wide, wide, True), layer_norm(f"{at}.temporal_linear.ln", wide),
        Linear(f"{at}.mlp", wide, made.hidden, True), Norm(f"{at}.after_norm", made.hidden),
    )  # fmt: skip
    return wrapped(c, made, (seen._replace(bridge=bridge),))
