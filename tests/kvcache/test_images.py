"""Images before the text: tokens, FLOPs of the towers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from estimator.api import flops, kvcache, memory
from estimator.errors import InputError
from estimator.models import load_model

SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 200,
}  # fmt: skip
TOWER = {"depth": 3, "hidden_size": 64, "num_heads": 4, "intermediate_size": 96, "out_hidden_size": 64}
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "num_attention_heads": 16, "intermediate_size": 4304,
    "image_size": 364, "patch_size": 14, "num_hidden_layers": 4, "vision_use_head": False,
}  # fmt: skip
# (config, image size, tokens of the text, FLOPs of tower and projector): FlopCounterMode on transformers 5.24, eager
CASES: dict[str, tuple[dict[str, Any], str | None, int, int]] = {
    "llava": ({"model_type": "llava"}, None, 576, 406077407232),
    "paligemma": ({"model_type": "paligemma"}, None, 256, 213551677440),
    "internvl": ({"model_type": "internvl"}, "448", 256, 740772904960),
    "aya_vision": ({"model_type": "aya_vision", "vision_config": SIGLIP}, None, 169, 115775156224),
    "qwen2_vl": (
        {"model_type": "qwen2_vl", "text_config": SMALL,
         "vision_config": {"depth": 2, "embed_dim": 64, "num_heads": 4, "hidden_size": 64}},
        "280x168", 60, 122634240,
    ),
    "qwen2_5_vl": (
        {"model_type": "qwen2_5_vl", "text_config": SMALL, "vision_config": {**TOWER, "fullatt_block_indexes": [1]}},
        "280x168", 60, 116736000,
    ),
    "qwen3_vl": (
        {"model_type": "qwen3_vl", "text_config": {**SMALL, "head_dim": 16},
         "vision_config": {**TOWER, "deepstack_visual_indexes": [0, 1]}},
        "320x192", 60, 162201600,
    ),
    "glm4v": (
        {"model_type": "glm4v", "text_config": SMALL, "vision_config": {**TOWER, "depth": 2}},
        "283x165", 60, 97812480,
    ),
}  # fmt: skip


def model(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize("name", CASES)
def test_tokens_and_flops_are_transformers(name: str, tmp_path: Path) -> None:
    config, size, tokens, want = CASES[name]
    path = model(tmp_path, config)
    asked: dict[str, Any] = {"batch_size": 1, "attention": "eager"}
    seen = flops(path, seq_len=16, images=1, image_size=size, **asked).results()["total_flops"]
    assert seen - flops(path, seq_len=16 + tokens, **asked).results()["total_flops"] == want
    twice = flops(path, seq_len=16, images=2, image_size=size, **asked).results()["total_flops"]
    assert twice - flops(path, seq_len=16 + 2 * tokens, **asked).results()["total_flops"] == 2 * want
    with_image = kvcache(path, seq_len=16, images=1, image_size=size).results()
    assert with_image["kv_cache_bytes"] == kvcache(path, seq_len=16 + tokens).results()["kv_cache_bytes"]


def test_the_text_alone(tmp_path: Path) -> None:
    path = model(tmp_path, {"model_type": "llava"})
    whole, text = (memory(path, part=part).results()["params.total"] for part in ("", "text"))
    assert text == memory("llama-2-7b").results()["params.total"] == 6738415616
    assert whole - text == sum(w.total for t in load_model(path).architecture.towers for w in t.weights())


BAD = {
    "--images: llama-3-8b sees no images": ("llama-3-8b", {"images": 1}),
    "--image-size is of --images": ("llama-3-8b", {"image_size": "448"}),
    "--part text: llama-3-8b has no part beside its text": ("llama-3-8b", {"part": "text"}),
    "unknown --part 'vision'": ("llama-3-8b", {"part": "vision"}),
}


@pytest.mark.parametrize("message", BAD)
def test_refusals(message: str) -> None:
    name, options = BAD[message]
    with pytest.raises(InputError) as error:
        kvcache(name, **options)
    assert message in str(error.value)


def test_a_tower_of_any_size_asks_for_one(tmp_path: Path) -> None:
    path = model(tmp_path, {"model_type": "qwen3_vl"})
    with pytest.raises(InputError, match="takes images of any size: add --image-size"):
        kvcache(path, images=1)
    with pytest.raises(InputError, match="--image-size must be pixels a side or HEIGHTxWIDTH"):
        kvcache(path, images=1, image_size="a4")
