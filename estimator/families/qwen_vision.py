"""The vision towers of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: images of any size as patches of two frames, rotary
positions in two dimensions, and a merger that makes one token of the text of a square of patches.

Source: transformers 5, models/qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_vl_moe, qwen3_5 and qwen3_5_moe, modeling_*.py and
configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Linear, Lookup, Norm
from estimator.families.common_tower import alone, layer_norm, pair, patch_conv, vit_layer
from estimator.families.towers import ImageGrid, Tower
from estimator.inventory import POSITION

# preprocessor_config.json of Qwen2-VL and Qwen2.5-VL (max_pixels 12,845,056 of 28 x 28 a token) and of Qwen3-VL
# (longest_edge 16,777,216 of 32 x 32)
MOST = 16_384


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The tower and its merger in module ``prefix``, by the config's model_type; a merge of its own."""
    at = f"{prefix}." if prefix else ""
    kind = c.text("model_type", "")
    if kind.startswith("qwen2_5_vl"):
        return _second_and_a_half(c, at)
    return _second(c, at) if kind.startswith("qwen2_vl") else _third(c, at, deep=kind.startswith("qwen3_vl"))


def _frames(c: Config) -> int:
    return pair(c, "temporal_patch_size", 2)[0]


def _side(c: Config) -> int:
    return c.plain("spatial_merge_size", 2, least=1)


def _layers(c: Config, at: str, d: int, d_ff: int, depth: int, act: str, **fields: Any) -> Any:
    return vit_layer(
        c, f"{at}blocks.{{i}}", d, d_ff, c.plain("depth|num_hidden_layers", depth, least=1), c.text("hidden_act", act),
        heads="num_heads|num_attention_heads", attn="attn", qkv=("qkv", "proj"), norms=("norm1", "norm2"),
        position="rope", **fields,
    )  # fmt: skip


def _second(c: Config, at: str) -> Tower:
    """Qwen2-VL: ``hidden_size`` is the text's width, ``embed_dim`` the tower's."""
    d, width = c.plain("embed_dim", 1280, least=1), c.plain("hidden_size", 3584, least=1)
    patch, side = pair(c, "patch_size", 14), _side(c)
    layers = _layers(c, at, d, int(d * c.number("mlp_ratio", 4)), 32, "quick_gelu")
    wide = d * side * side
    return Tower(
        "vision", (patch_conv(f"{at}patch_embed.proj", c, d, patch, False, _frames(c), "in_channels"),), (layers,),
        (layer_norm(f"{at}merger.ln_q", d),),
        (Linear(f"{at}merger.mlp.0", wide, wide, True), Linear(f"{at}merger.mlp.2", wide, width, True)),
        ImageGrid(None, patch, side, most=MOST, films=True),
    )  # fmt: skip


def _second_and_a_half(c: Config, at: str) -> Tower:
    """Qwen2.5-VL: RMSNorm, a gated MLP, attention in windows but for ``fullatt_block_indexes``."""
    d, width = c.plain("hidden_size", 3584, least=1), c.plain("out_hidden_size", 3584, least=1)
    patch, side = pair(c, "patch_size", 14), _side(c)
    layers = _layers(
        c, at, d, c.plain("intermediate_size", 3420, least=1), 32, "silu", norm_kind="rms",
        fc=("gate_proj", "up_proj", "down_proj"),
    )  # fmt: skip
    wide = d * side * side
    window = max(1, c.plain("window_size", 112, least=1) // side // patch[0]) * side
    whole = c.items("fullatt_block_indexes")
    everywhere = (7, 15, 23, 31) if whole is None else whole  # the class's default
    cut = layers._replace(mixer=layers.mixer._replace(chunk=window))
    groups = tuple(
        group._replace(times=len(these), indices=these)
        for group, inside in ((layers, True), (cut, False))
        if (these := tuple(i for i in range(int(layers.times)) if (i in everywhere) == inside))
    )
    return Tower(
        "vision", (patch_conv(f"{at}patch_embed.proj", c, d, patch, False, _frames(c), "in_channels"),), groups,
        (Norm(f"{at}merger.ln_q", d),),
        (Linear(f"{at}merger.mlp.0", wide, wide, True), Linear(f"{at}merger.mlp.2", wide, width, True)),
        ImageGrid(None, patch, side, window=window, most=MOST, films=True),
    )  # fmt: skip


def _third(c: Config, at: str, deep: bool) -> Tower:
    """Qwen3-VL and Qwen3.5: learned positions too; Qwen3-VL merges the features of inner layers as well."""
    d, width = c.plain("hidden_size", 1152, least=1), c.plain("out_hidden_size", 3584, least=1)
    patch, side = pair(c, "patch_size", 16), _side(c)
    layers = _layers(c, at, d, c.plain("intermediate_size", 4304, least=1), 27, "gelu_pytorch_tanh", fc=FC)
    wide = d * side * side
    inner = c.items("deepstack_visual_indexes") if deep else []
    count = 3 if inner is None else len(inner)  # the class's default names three layers
    mergers: list[Any] = []
    for name in ("merger", *(f"deepstack_merger_list.{i}" for i in range(count))):
        norm = () if name == "merger" else (layer_norm(f"{at}{name}.norm", wide),)
        mergers += [*norm, Linear(f"{at}{name}.{FC[0]}", wide, wide, True)]
        mergers.append(Linear(f"{at}{name}.{FC[1]}", wide, width, True))
    stem = (
        patch_conv(f"{at}patch_embed.proj", c, d, patch, True, _frames(c), "in_channels"),
        Lookup(f"{at}pos_embed", c.plain("num_position_embeddings", 2304, least=1), d, POSITION),
    )
    final = (layer_norm(f"{at}merger.norm", d),)
    return Tower("vision", stem, (layers,), final, tuple(mergers), ImageGrid(None, patch, side, most=MOST))


FC = ("linear_fc1", "linear_fc2")


def build(c: Config) -> Architecture:
    """The tower alone."""
    made = tower(c, "")
    return alone(c, made._replace(final=(*made.final, *made.bridge)))
