"""MiniMax M3: a text model with an indexer that chooses blocks of keys, SwiGLU with a clamp, experts beside a shared
one; and a vision tower whose patches are projected and then merged.

Source: transformers 5.24, models/minimax_m3_vl/modeling_minimax_m3_vl.py and configuration_minimax_m3_vl.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Indexer, Layer, Linear, MoE, Norm
from estimator.families.common import FULL, gated_mlp, gqa, layer_count, layer_groups
from estimator.families.common_dense import ATTN, LAYER, head_norms
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    mlp_types,
    pre_norms,
    routed,
)
from estimator.families.common_tower import alone, either_tied, layer_norm, pair, part, patch_conv, vit_layer, wrapped
from estimator.families.deepseek_v3 import correction_bias
from estimator.families.towers import ImageGrid, Tower

TEXT, VISION = "minimax_m3_vl_text", "minimax_m3_vl_vision"
SPARSE = "minimax_m3_sparse"
ACT, PLUS1 = "swiglu_oai", "rms_plus1"
FUSED = ("gate_up_proj", "down_proj")


def tower(c: Config, prefix: str, merge: int | None = None, tokens: int | None = None) -> Tower:
    """The vision tower in module ``prefix``."""
    at = f"{prefix}." if prefix else ""
    d, patch = c.plain("hidden_size", 1280, least=1), pair(c, "patch_size", 14)
    layers = vit_layer(
        c, f"{at}layers.{{i}}", d, c.plain("intermediate_size", 5120, least=1),
        c.plain("num_hidden_layers", 32, least=1), c.text("hidden_act", "gelu"), position="rope",
    )  # fmt: skip
    frames = pair(c, "temporal_patch_size", 2)[0]
    stem = (patch_conv(f"{at}embeddings.proj", c, d, patch, False, frames), layer_norm(f"{at}pre_layrnorm", d))
    side = c.plain("spatial_merge_size", 2, least=1)
    return Tower("vision", stem, (layers,), grid=ImageGrid(None, patch, side))


def build(c: Config) -> Architecture:
    """The whole model, its text or its tower alone."""
    kind = c.text("model_type", "")
    if kind == VISION:
        return alone(c, tower(c, ""))
    if kind == TEXT:
        return text_of(c)
    text, vision = part(c, "text_config", TEXT), part(c, "vision_config", VISION)
    tied = either_tied(c, text, False)
    text = Config({**text.raw, "tie_word_embeddings": tied}, c.traced, text.where)
    made = text_of(text)._replace(model_type=TEXT)
    c.heed(text)
    seen, at = tower(vision, "model.vision_tower"), "model.multi_modal_projector"
    inner, width = c.plain("projector_hidden_size", 6144, least=1), made.hidden
    side = vision.plain("spatial_merge_size", 2, least=1)
    bridge = (
        Linear(f"{at}.linear_1", vision.plain("hidden_size", 1280, least=1), inner, True),
        Linear(f"{at}.linear_2", inner, width, True),
        Linear(f"{at}.merge_linear_1", width * side * side, inner, True),
        Linear(f"{at}.merge_linear_2", inner, width, True),
    )
    return wrapped(c, made, (seen._replace(bridge=bridge),))


def text_of(c: Config) -> Architecture:
    """The text model."""
    d, h, h_kv, d_h = attention_sizes(c, 6144, 64, 4, head_dim=128)
    L = c.size("num_hidden_layers", 60)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 128, 4)
    at = f"{LAYER}.mlp"
    beside = gated_mlp(f"{at}.shared_experts", d, c.size("shared_intermediate_size", 3072), ACT, names=FUSED)
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(
            at, d, c.size("intermediate_size", 3072), E, k, ACT, shared=beside, shared_first=True,
            routing="sigmoid_groups",
        ),
        DENSE: gated_mlp(at, d, c.size("dense_intermediate_size", 12288), ACT, names=FUSED),
    }  # fmt: skip
    full = gqa(
        ATTN, d, h, h_kv, d_h, norms=head_norms(d_h, PLUS1), rope_dim=c.size("rotary_dim", 64), rotary="joined"
    )  # fmt: skip
    mixers = {FULL: full, SPARSE: full._replace(indexer=_indexer(c, d))}
    kinds, sparse = _kinds(c, L), _sparse(c, L)
    layers = tuple(
        Layer(times, mixers[kind], mlps[mlp], *pre_norms(LAYER, d, PLUS1), indices=where)
        for (kind, mlp), times, where in layer_groups([(x, sparse(i)) for i, x in enumerate(kinds)], L, c.traced)
    )
    made = decoder(
        c, layers, d, L, 200064, 524288, norm=Norm("model.norm", d, PLUS1), buffers=correction_bias(layers, E)
    )  # fmt: skip
    return made


def _indexer(c: Config, d: Any) -> Indexer:
    older = Config(_older(c), where=f"{c.where}: sparse_attention_config")
    heads = older.size("sparse_num_index_heads", c.size("index_n_heads", 4))
    width = older.size("sparse_index_dim", c.size("index_head_dim", 128))
    at = f"{ATTN}.indexer"
    return Indexer(
        Linear(f"{at}.q_proj", d, heads * width), Linear(f"{at}.k_proj", d, width),
        Norm(f"{at}.k_norm", width, PLUS1), None, heads, width, Norm(f"{at}.q_norm", width, PLUS1),
    )  # fmt: skip


def _older(c: Config) -> dict[str, Any]:
    """What published files say of the sparse attention."""
    given = c.raw.get("sparse_attention_config")
    return given if isinstance(given, dict) else {}


def _marked(c: Config, given: Any, name: str, L: Any) -> list[bool] | None:
    """A list of zeros and ones, one a layer."""
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != layer_count(c, L) or any(x not in (0, 1) for x in given):
        raise InputError(f"{c.where}: {name} must be a list of {int(L)} zeros and ones, got {str(given)[:40]!r}")
    return [bool(x) for x in given]


def _kinds(c: Config, L: Any) -> list[str]:
    older = _marked(c, _older(c).get("sparse_attention_freq"), "sparse_attention_freq", L)
    return layer_types(c, L, (FULL, SPARSE), lambda i: SPARSE if older and older[i] else FULL)


def _sparse(c: Config, L: Any) -> Any:
    older = _marked(c, c.raw.get("moe_layer_freq"), "moe_layer_freq", L)
    return mlp_types(c, L, lambda i: DENSE if older and not older[i] else MOE)
