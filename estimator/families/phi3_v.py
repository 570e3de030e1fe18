"""Phi-3 and Phi-3.5 Vision: a Phi-3, CLIP's tower and two matrices; squares of four patches become one vector, with
learned ends of lines and of pictures.

Source: microsoft/Phi-3CookBook and vllm-project/vllm, vllm/model_executor/models/phi3v.py; held to the tensors that the
published file holds.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import clip
from estimator.families.base import Architecture, Extra
from estimator.families.common_tower import text_model, two_layers, width_of, wrapped
from estimator.families.llava import CLIP_L

AT = "model.vision_embed_tokens"
SIDE = 2  # use_hd_transform: patches a side that become one vector


def build(c: Config) -> Architecture:
    """The whole model."""
    named = c.raw.get("img_processor")
    if not isinstance(named, dict) or "clip-vit-large-patch14-336" not in str(named.get("model_name")):
        raise InputError(f"{c.where}: img_processor must name clip-vit-large-patch14-336, got {str(named)[:40]!r}")
    made = text_model(c, Config({**c.raw.copied(), "model_type": "phi3"}, c.traced, c.where))
    vision = Config({"model_type": "clip_vision_model", **CLIP_L}, False, f"{c.where}: img_processor")
    seen = clip.tower(vision, f"{AT}.img_processor.vision_model", SIDE)
    wide = width_of(seen) * SIDE * SIDE
    ends = (Extra(f"{AT}.glb_GN", (1, 1, wide)), Extra(f"{AT}.sub_GN", (1, 1, 1, wide)))
    seen = seen._replace(bridge=(*ends, *two_layers(f"{AT}.img_projection", wide, made.hidden, names=("0", "2"))))
    return wrapped(c, made, (seen,), None)
