"""What a profile run's dummy images take beside the language model.

Source: vLLM v1/worker/gpu_model_runner.py, profile_run, and v1/core/encoder_cache_manager.py: a batch of the largest
images that fit the budget of tokens (at least one) passes the encoder; its pixels and its outputs stay for the text's
pass. Two starts of 0.13.0 and 0.19.0 print one image of 16,384 tokens for Qwen3-VL and Qwen3.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.engines.asked import ServerAsked
from estimator.families.base import MLP, Layer
from estimator.families.towers import Conv, Tower, walked
from estimator.models import Model
from estimator.records import NamedTuple
from estimator.trace import value_of

CHANNELS = 3
STACKED = "deepstack_visual_indexes"  # the encoder's layers whose features are added in the text's first layers


class Images(NamedTuple):
    """Bytes: of pixels and embeddings, which stay for the text's pass; at the encoder's own peak, pixels included."""

    held: int = 0
    peak: int = 0


def images(asked: ServerAsked, tokens: int) -> Images:
    """What the images that fill a budget of ``tokens`` encoder tokens take; nothing for a model that sees nothing."""
    d, w = int(value_of(asked.arch.hidden)), asked.width
    seen = [x for x in asked.arch.towers if x.kind == "vision" and x.grid is not None]
    if not seen or seen[0].grid is None or seen[0].grid.most is None:
        return Images(_resized(asked.model, tokens, d, w))
    tower, most = seen[0], seen[0].grid.most
    count = max(1, tokens // most)
    patches = count * most * seen[0].grid.merge ** 2
    numbers = next((int(value_of(x.inputs)) for x in tower.stem if isinstance(x, Conv)), 0)
    pixels = patches * numbers * w
    outputs = count * most * d * w * (1 + levels(asked))
    return Images(pixels + outputs, pixels + patches * _alive(asked, tower) * w)


def levels(asked: ServerAsked) -> int:
    """Layers of the encoder whose features go to the text's first layers."""
    vision = _fields(asked.model).get("vision_config")
    named = vision.get(STACKED) if isinstance(vision, Mapping) else None
    return len(named) if isinstance(named, list) and asked.arch.towers else 0


def stacked_bytes(asked: ServerAsked, tokens: int) -> int:
    """Bytes of the buffers for those features of a step of ``tokens``, made with the model (qwen3_vl.py of 0.13.0)."""
    return levels(asked) * tokens * int(value_of(asked.arch.hidden)) * asked.width


def _alive(asked: ServerAsked, tower: Tower) -> int:
    """Numbers of a patch alive in a layer's MLP: its input twice, and what its matrices and its activation make."""
    found = [x for x in tower.layers if isinstance(x, Layer) and isinstance(x.mlp, MLP)] if walked(tower) else []
    sizes = []
    for x in found:
        mlp = x.mlp
        assert isinstance(mlp, MLP)
        width, d = int(value_of(mlp.width)), int(value_of(mlp.linears[-1].d_out))
        sizes.append(2 * d + (3 if mlp.gated else 2) * width // (1 if tower.copied else asked.tensor))
    return max(sizes, default=0)


def _fields(model: Model) -> Mapping[str, Any]:
    return model.config.raw if model.config else {}


def _resized(model: Model, tokens: int, d: int, w: int) -> int:
    """Bytes of images of one size, by the config, and of their embeddings [tokens, d]; w: bytes of an element."""
    raw = _fields(model)
    vision = raw.get("vision_config")
    if not isinstance(vision, Mapping):
        return 0
    side, patch = vision.get("image_size"), vision.get("patch_size")
    if not isinstance(side, int) or not isinstance(patch, int) or side < patch or patch < 1:
        return 0
    merge = raw.get("spatial_merge_size", vision.get("spatial_merge_size", 1))
    each = raw.get("mm_tokens_per_image")
    if not isinstance(each, int) or each < 1:
        each = (side // (patch * (merge if isinstance(merge, int) and merge > 0 else 1))) ** 2
    return max(1, tokens // max(1, each)) * side * side * CHANNELS * w + tokens * d * w
