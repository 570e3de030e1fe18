"""What a profile run's dummy images take beside the language model.

Source: vLLM v1/worker/gpu_model_runner.py, profile_run, and v1/core/encoder_cache_manager.py: a batch of the largest
images that fit the budget of tokens (at least one) passes the encoder; its pixels and its outputs stay for the text's
pass. Two starts of 0.13.0 and 0.19.0 print one image of 16,384 tokens for Qwen3-VL and Qwen3.5. Where a video may have
more tokens than an image, it is a video: Qwen2-VL's and Qwen2.5-VL's of up to 14 frames as large as the largest image,
two of which are one step in time, as many as the longest sequence holds (model_executor/models/qwen2_vl.py,
get_num_frames_with_most_features; 0.11.1 and later, before which 32 and 600 frames were the most).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from estimator.engines.asked import ServerAsked
from estimator.errors import InputError
from estimator.families.base import MLP, Layer
from estimator.families.towers import Conv, ImageGrid, Tower, walked
from estimator.models import Model
from estimator.records import NamedTuple
from estimator.trace import value_of

CHANNELS = 3
LONGEST = 200  # characters of the limits of a prompt
KINDS = ("image", "video", "audio")
STEPS = 7  # two frames each: _MAX_FRAMES_PER_VIDEO = 14
# since then videos have 14 frames, and the block with RMSNorm adds and normalises at once (qwen2_vl.py, qwen2_5_vl.py)
FILMS = (0, 11, 1)
STACKED = "deepstack_visual_indexes"  # the encoder's layers whose features are added in the text's first layers


class Images(NamedTuple):
    """Bytes: of pixels and embeddings, which stay for the text's pass; at the encoder's own peak, pixels included."""

    held: int = 0
    peak: int = 0


def images(asked: ServerAsked, tokens: int) -> Images:
    """What the images that fill a budget of ``tokens`` encoder tokens take; nothing for a model that sees nothing."""
    d, w = int(value_of(asked.arch.hidden)), asked.width
    allowed = limits(asked.question.limit_mm_per_prompt)
    tower, grid = _seeing(asked)
    if allowed.get("image") == 0 and (allowed.get("video") == 0 or not _films(asked, grid)):
        return Images()
    if tower is None or grid is None or grid.most is None:
        return Images(_resized(asked.model, tokens, d, w))
    most = grid.most * video_steps(asked, grid)
    count = max(1, tokens // most)
    patches = count * most * grid.merge**2
    numbers = next((int(value_of(x.inputs)) for x in tower.stem if isinstance(x, Conv)), 0)
    pixels = patches * numbers * w
    outputs = count * most * d * w * (1 + levels(asked))
    return Images(pixels + outputs, pixels + patches * _alive(asked, tower) * w)


def _seeing(asked: ServerAsked) -> tuple[Tower, ImageGrid] | tuple[None, None]:
    """The tower that images pass, and how they become tokens."""
    return next(((x, x.grid) for x in asked.arch.towers if x.kind == "vision" and x.grid is not None), (None, None))


def _films(asked: ServerAsked, grid: ImageGrid | None) -> bool:
    """Whether the profile run may be of a video with more tokens than an image."""
    return grid is not None and grid.films and asked.at_least(*FILMS)


def video_steps(asked: ServerAsked, grid: ImageGrid) -> int:
    """Steps in time of the video that is profiled, each of as many tokens as the largest image; 1: an image."""
    none = limits(asked.question.limit_mm_per_prompt).get("video") == 0
    if none or grid.most is None or not _films(asked, grid):
        return 1
    return max(1, min(STEPS, asked.length // grid.most))


def limits(text: Any) -> dict[str, int]:
    """Items of each kind that a prompt may have: ``{"image": 1, "video": 0}`` or ``image=1,video=0``; none: no limit.

    InputError for other texts.
    """
    if text is None:
        return {}
    given = text
    if isinstance(text, str):
        try:
            if len(text) > LONGEST:
                raise ValueError(text)
            given = json.loads(text) if text.lstrip().startswith("{") else dict(x.split("=") for x in text.split(","))
        except ValueError:
            given = None
    out = {}
    for kind, count in (given if isinstance(given, Mapping) else {"": None}).items():
        n = count.get("count", 1) if isinstance(count, Mapping) else count
        if not re.fullmatch(r"\d{1,9}", str(n)) or kind not in KINDS:
            wanted = f"{{\"video\": 0}} or video=0, of {', '.join(KINDS)}"
            raise InputError(f"--limit-mm-per-prompt {str(text)[:60]}: expected {wanted}")
        out[kind] = int(str(n))
    return out


def said_of(asked: ServerAsked) -> list[str]:
    """What is assumed of a profile run with a video."""
    _, grid = _seeing(asked)
    if grid is None or grid.most is None or (steps := video_steps(asked, grid)) == 1:
        return []
    return [f"the trial run passes a video of {steps * grid.most:,} tokens through the vision encoder: "
            "--limit-mm-per-prompt video=0 leaves it out"]  # fmt: skip


def levels(asked: ServerAsked) -> int:
    """Layers of the encoder whose features go to the text's first layers."""
    vision = _fields(asked.model).get("vision_config")
    named = vision.get(STACKED) if isinstance(vision, Mapping) else None
    return len(named) if isinstance(named, list) and asked.arch.towers else 0


def stacked_bytes(asked: ServerAsked, tokens: int) -> int:
    """Bytes of the buffers for those features of a step of ``tokens``, made with the model (qwen3_vl.py of 0.13.0)."""
    return levels(asked) * tokens * int(value_of(asked.arch.hidden)) * asked.width


def _alive(asked: ServerAsked, tower: Tower) -> int:
    """Numbers of a patch alive in a layer's MLP: its input twice, and what its matrices and its activation make.

    Where the sum before it is made with its norm, the layer's input, what is added and the sum live on beside that:
    five such states fit the one start that is known, of Qwen2.5-VL-7B on 0.23.0, to 0.2%.
    """
    found = [x for x in tower.layers if isinstance(x, Layer) and isinstance(x.mlp, MLP)] if walked(tower) else []
    sizes = []
    for x in found:
        mlp = x.mlp
        assert isinstance(mlp, MLP)
        width, d = int(value_of(mlp.width)), int(value_of(mlp.linears[-1].d_out))
        fused = asked.at_least(*FILMS) and all(n.kind == "rms" for n in x.norms)
        sizes.append((5 if fused else 2) * d + (3 if mlp.gated else 2) * width // (1 if tower.copied else asked.tensor))
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
