"""Write family_variants_multimodal.json.gz: every tensor of transformers' multimodal, vision and audio classes.

Needs torch and transformers (5.24.0 when the file was written); the tests do not. Each class is built on the meta
device as it comes, with small sizes of ``benchmarks/class_walk.py``, and again with every flag that changes its
tensors; the config is written as ``save_pretrained`` writes it, which leaves out what equals the class's default.
A record holds

config   as it would stand in a config.json
tensors  [name with indices as {i}, shape, how many] of the unique parameters

Run: PYTHONPATH=. python tests/data/make_family_variants_multimodal.py
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from class_walk import Walk, is_size, sized
from make_family_variants_dense import tensors

# model_type: classes; further fields of a variant follow in VARIANTS
CLASSES: dict[str, tuple[str, ...]] = {
    "siglip": ("SiglipModel",), "siglip_vision_model": ("SiglipVisionModel",), "siglip2": ("Siglip2Model",),
    "siglip2_vision_model": ("Siglip2VisionModel",), "clip": ("CLIPModel",),
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
    "clip_text_model": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "vit": ("ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"),
    "dinov2": ("Dinov2Model", "Dinov2ForImageClassification"), "pixtral": ("PixtralVisionModel",),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration",), "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration",),
    "qwen3_vl": ("Qwen3VLForConditionalGeneration",), "qwen3_vl_moe": ("Qwen3VLMoeForConditionalGeneration",),
    "llava": ("LlavaForConditionalGeneration",), "llava_next": ("LlavaNextForConditionalGeneration",),
    "llava_onevision": ("LlavaOnevisionForConditionalGeneration",), "vipllava": ("VipLlavaForConditionalGeneration",),
    "llava_next_video": ("LlavaNextVideoForConditionalGeneration",),
    "paligemma": ("PaliGemmaForConditionalGeneration",), "aya_vision": ("AyaVisionForConditionalGeneration",),
    "cohere2_vision": ("Cohere2VisionForConditionalGeneration",), "mistral3": ("Mistral3ForConditionalGeneration",),
    "deepseek_vl": ("DeepseekVLForConditionalGeneration",), "idefics3": ("Idefics3ForConditionalGeneration",),
    "smolvlm": ("SmolVLMForConditionalGeneration",), "internvl": ("InternVLForConditionalGeneration",),
    "kimi_k25": ("Kimi_K25ForConditionalGeneration",), "glm4v": ("Glm4vForConditionalGeneration",),
    "glm4v_moe": ("Glm4vMoeForConditionalGeneration",),
    "ernie4_5_vl_moe": ("Ernie4_5_VLMoeForConditionalGeneration",), "phi4_multimodal": ("Phi4MultimodalForCausalLM",),
    "gemma3": ("Gemma3ForConditionalGeneration",),
}  # fmt: skip
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "llava": [{"vision_feature_layer": [-2, -1]}, {"vision_config.model_type": "siglip_vision_model"}],
    "mistral3": [{"vision_feature_layer": [-2, -1]}],
    "internvl": [{"vision_config.norm_type": "rms_norm"}, {"downsample_ratio": 0.25}],
    "qwen3_vl": [{"vision_config.deepstack_visual_indexes": [1]}],
    "aya_vision": [{"alignment_intermediate_size": 96}],
    "ernie4_5_vl_moe": [{"text_config.moe_num_shared_experts": 0}],
    "glm4v_moe": [{"text_config.first_k_dense_replace": 0}],
}


def written(config: Any, name: str) -> dict[str, Any]:
    """What ``save_pretrained`` puts into config.json."""
    out: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return {**out, "architectures": [name]}


def main() -> None:
    """Write the fixture beside this file."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity_error()
    records: list[dict[str, Any]] = []

    def add(walk: Walk, fields: dict[str, Any], name: str, seen: set[str]) -> bool:
        """Record one config; False where the class refuses it or its tensors were recorded."""
        try:
            config = walk._config(fields)
            with torch.device("meta"):
                model = walk.model_class(config)
            model.tie_weights()
        except Exception:
            return False
        rows = tensors(model)
        key = json.dumps(rows)
        if key in seen:
            return False
        seen.add(key)
        records.append({"config": written(config, name), "tensors": rows})
        return True

    for model_type, names in CLASSES.items():
        for name in names:
            walk, seen = Walk(CONFIG_MAPPING[model_type], getattr(transformers, name)), set[str]()
            fields = [n for n, v in walk.defaults.items() if is_size(n, v)]
            start = len(records)
            add(walk, {}, name, seen)
            bases = [sized(walk, fields, seed) for seed in range(12)]
            base = next((b for b in bases if add(walk, b, name, seen)), {})
            for flag, value in walk.defaults.items():
                if isinstance(value, bool):
                    add(walk, {**base, flag: not value}, name, seen)
            for change in VARIANTS.get(model_type, []):
                if not add(walk, {**base, **change}, name, seen):
                    print(f"{name}: {change} does not build")
            print(name, len(records) - start, "records")
    path = Path(__file__).with_name("family_variants_multimodal.json.gz")
    path.write_bytes(gzip.compress(json.dumps(records, separators=(",", ":")).encode(), 9, mtime=0))
    print(len(records), "records,", path.stat().st_size, "bytes", Counter(r["config"]["model_type"] for r in records))


if __name__ == "__main__":
    main()
