"""Write family_variants_multimodal.json.gz: tensors of transformers' multimodal, vision, audio and encoder classes.

Needs torch and transformers (5.24.0 when the file was written); the tests do not. Each class is built on the meta
device as it comes, with small sizes of ``benchmarks/class_walk.py``, and again with every flag that changes its
tensors; the config is written as ``save_pretrained`` writes it, which leaves out what equals the class's default.
A record holds

config   as it would stand in a config.json
tensors  [name with indices as {i}, shape, how many] of the unique parameters
flops    of a forward pass over TOKENS tokens of text (Whisper: its window of sound and as many tokens), with eager
         attention and all logits, as torch's FlopCounterMode counts them; at one size, where the class takes tokens

Run: PYTHONPATH=. python tests/data/make_family_variants_multimodal.py [MODEL_TYPE ...]: those alone, the others kept
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
    "minimax_m3_vl": ("MiniMaxM3SparseForConditionalGeneration",), "minimax_m3_vl_vision": ("MiniMaxM3VLVisionModel",),
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
    "qwen3_5": ("Qwen3_5ForConditionalGeneration",), "qwen3_5_moe": ("Qwen3_5MoeForConditionalGeneration",),
    "gemma4": ("Gemma4ForConditionalGeneration",),
    "llama4": ("Llama4ForConditionalGeneration",), "gemma4_vision": ("Gemma4VisionModel",),
    "llama4_vision_model": ("Llama4VisionModel",),
    "step3p7": ("Step3p7ForConditionalGeneration",), "lfm2_vl": ("Lfm2VlForConditionalGeneration",),
    "gemma3": ("Gemma3ForConditionalGeneration",),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification"),
    "camembert": ("CamembertForMaskedLM", "CamembertForTokenClassification"),
    "electra": (
        "ElectraModel", "ElectraForMaskedLM", "ElectraForPreTraining", "ElectraForSequenceClassification",
        "ElectraForMultipleChoice",
    ),
    "deberta-v2": (
        "DebertaV2Model", "DebertaV2ForMaskedLM", "DebertaV2ForSequenceClassification",
        "DebertaV2ForTokenClassification", "DebertaV2ForQuestionAnswering",
    ),
    "mpnet": ("MPNetModel", "MPNetForMaskedLM", "MPNetForSequenceClassification", "MPNetForMultipleChoice"),
    "nomic_bert": ("NomicBertModel", "NomicBertForMaskedLM", "NomicBertForSequenceClassification"),
    "gte": ("GteModel", "GteForMaskedLM", "GteForSequenceClassification", "GteForTokenClassification"),
    "eurobert": ("EuroBertModel", "EuroBertForMaskedLM", "EuroBertForSequenceClassification"),
    "whisper": ("WhisperModel", "WhisperForConditionalGeneration", "WhisperForAudioClassification"),
    "mt5": ("MT5Model", "MT5ForConditionalGeneration", "MT5EncoderModel"),
    "umt5": ("UMT5ForConditionalGeneration", "UMT5EncoderModel"),
    "mbart": ("MBartModel", "MBartForConditionalGeneration", "MBartForSequenceClassification"),
    "m2m_100": ("M2M100Model", "M2M100ForConditionalGeneration"), "marian": ("MarianModel", "MarianMTModel"),
    "pegasus": ("PegasusModel", "PegasusForConditionalGeneration"),
    "wav2vec2": (
        "Wav2Vec2Model", "Wav2Vec2ForCTC", "Wav2Vec2ForSequenceClassification", "Wav2Vec2ForPreTraining",
    ),
    "hubert": ("HubertModel", "HubertForCTC"),
    "wavlm": ("WavLMModel", "WavLMForCTC", "WavLMForXVector", "WavLMForAudioFrameClassification"),
    "glm_ocr": ("GlmOcrForConditionalGeneration",), "gemma4_unified": ("Gemma4UnifiedForConditionalGeneration",),
    "glm5_next": ("Glm5NextForConditionalGeneration",),
    "florence2": ("Florence2ForConditionalGeneration",),
}  # fmt: skip
TOKENS = 24
LEFT = ("is_gated_act", "is_decoder")  # flags that say again what another field says, or make another model
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "llava": [{"vision_feature_layer": [-2, -1]}, {"vision_config.model_type": "siglip_vision_model"}],
    "mistral3": [{"vision_feature_layer": [-2, -1]}],
    "internvl": [{"vision_config.norm_type": "rms_norm"}, {"downsample_ratio": 0.25}],
    "qwen3_vl": [{"vision_config.deepstack_visual_indexes": [1]}],
    "aya_vision": [{"alignment_intermediate_size": 96}],
    "ernie4_5_vl_moe": [{"text_config.moe_num_shared_experts": 0}],
    "deberta-v2": [
        {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 7},
        {"relative_attention": True, "pos_att_type": "c2p|p2c", "share_att_key": True, "norm_rel_ebd": "layer_norm"},
        {"relative_attention": True, "pos_att_type": ["p2c"], "max_relative_positions": 9},
        {"conv_kernel_size": 3, "conv_groups": 2, "type_vocab_size": 2},
    ],
    "wav2vec2": [
        {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True, "adapter_attn_dim": 16},
        {"add_adapter": True, "output_hidden_size": 64}, {"mask_time_prob": 0.0},
    ],
    "wavlm": [{"do_stable_layer_norm": True}, {"use_weighted_layer_sum": True}],
    "hubert": [{"feat_extract_norm": "layer", "do_stable_layer_norm": True}],
    "marian": [{"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 777}],
    "mt5": [{"feed_forward_proj": "relu"}, {"num_decoder_layers": 2}],
    "glm4v_moe": [{"text_config.first_k_dense_replace": 0}],
}


def written(config: Any, name: str) -> dict[str, Any]:
    """What ``save_pretrained`` puts into config.json."""
    out: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return {**out, "architectures": [name]}


def flops(model: Any) -> int | None:
    """FLOPs of a forward pass over text, or None where the class takes none."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def ids() -> Any:
        return torch.zeros(1, TOKENS, dtype=torch.long, device="meta")

    kwargs: dict[str, Any] = {"input_ids": ids()}
    if model.config.model_type == "whisper":
        frames = 2 * model.config.max_source_positions
        kwargs = {"input_features": torch.zeros(1, model.config.num_mel_bins, frames, device="meta")}
    if model.config.is_encoder_decoder:
        kwargs["decoder_input_ids"] = ids()
    elif "ForConditionalGeneration" in type(model).__name__:
        kwargs["attention_mask"] = None
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(**kwargs)
    except Exception as error:
        print(f"{type(model).__name__}: no FLOPs: {type(error).__name__}: {str(error)[:90]}")
        return None
    return counter.get_total_flops()


def main() -> None:
    """Write the fixture beside this file."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity_error()
    path, only = Path(__file__).with_name("family_variants_multimodal.json.gz"), sys.argv[1:]
    kept = json.loads(gzip.decompress(path.read_bytes())) if only else []
    records: list[dict[str, Any]] = [r for r in kept if r["config"]["model_type"] not in only]

    def add(walk: Walk, fields: dict[str, Any], name: str, seen: set[str], run: bool = False) -> bool:
        """Record one config; False where the class refuses it or its tensors were recorded."""
        try:
            config = walk._config(fields)
            config._attn_implementation, config._experts_implementation = "eager", "batched_mm"
            with torch.device("meta"):
                model = walk.model_class(config)
            model.tie_weights()
        except Exception:
            return False
        rows = tensors(model)
        if getattr(config, "tie_word_embeddings", False):  # the name of the table, where the head comes first
            tied = model._tied_weights_keys or {}
            names = {n for n, *_ in rows}
            rows = [[tied[n] if n in tied and tied[n] not in names else n, *rest] for n, *rest in rows]
        key = json.dumps(rows)
        if key in seen:
            return False
        seen.add(key)
        made = {"config": written(config, name), "tensors": rows}
        takes = run and "vision_model" not in config.model_type and "Audio" not in name
        total = flops(model) if takes else None
        records.append(made if total is None else {**made, "flops": total})
        return True

    for model_type, names in CLASSES.items():
        for name in names if not only or model_type in only else ():
            walk, seen = Walk(CONFIG_MAPPING[model_type], getattr(transformers, name)), set[str]()
            fields = [n for n, v in walk.defaults.items() if is_size(n, v) and n != "decoder_vocab_size"]
            start = len(records)
            add(walk, {}, name, seen)
            bases = [sized(walk, fields, seed) for seed in range(12)]
            base = next((b for b in bases if add(walk, b, name, seen, run=True)), {})
            for flag, value in walk.defaults.items():
                if isinstance(value, bool) and flag not in LEFT:
                    add(walk, {**base, flag: not value}, name, seen)
            for change in VARIANTS.get(model_type, []):
                if not add(walk, {**base, **change}, name, seen):
                    print(f"{name}: {change} does not build")
            print(name, len(records) - start, "records")
    path.write_bytes(gzip.compress(json.dumps(records, separators=(",", ":")).encode(), 9, mtime=0))
    print(len(records), "records,", path.stat().st_size, "bytes", Counter(r["config"]["model_type"] for r in records))


if __name__ == "__main__":
    main()
