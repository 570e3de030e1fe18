"""What a profile run's dummy images take beside the language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.models import Model

CHANNELS = 3


def images_bytes(model: Model, tokens: int, d: int, w: int) -> int:
    """Bytes of the images that fill a budget of ``tokens`` encoder tokens, and of their embeddings [tokens, d]; 0 for a
    model that sees nothing. w: bytes of an element."""
    raw: Mapping[str, Any] = model.config.raw if model.config else {}
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
