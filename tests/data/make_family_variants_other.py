"""Writes family_variants_other.json: small configs over the structural switches of the expert, state-space, encoder and
encoder-decoder families, and the tensors of transformers' own models for them, built on the meta device.

Run by hand, where torch and transformers 5 are installed: ``python tests/data/make_family_variants_other.py``.
A T5 config with ``tie_word_embeddings`` false gets a head of its own, as published (transformers 5 would tie it).
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from make_family_variants_dense import tensors

TOKENS = 24
ENCODERS = ("bert", "roberta")
NEEDED = {"deepseek_v2": {"num_experts_per_tok": 6}}  # what has no default

SMALL = {"vocab_size": 97, "pad_token_id": 1, "hidden_size": 48, "num_hidden_layers": 6}
ATTENTION = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2}
MIXTRAL = {**ATTENTION, "intermediate_size": 40, "num_local_experts": 4, "num_experts_per_tok": 2}
QWEN = {**ATTENTION, "intermediate_size": 56, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 3}
QWEN2 = {**QWEN, "shared_expert_intermediate_size": 32}
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 8, "linear_value_head_dim": 10,
    "linear_conv_kernel_dim": 3,
}  # fmt: skip
ROUTED = {
    "intermediate_size": 56, "moe_intermediate_size": 24, "n_routed_experts": 8, "n_shared_experts": 2,
    "num_experts_per_tok": 3, "n_group": 2, "topk_group": 1,
}  # fmt: skip
MLA = {
    **SMALL, **ROUTED, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 20, "kv_lora_rank": 12,
    "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14,
}  # fmt: skip
BERT = {**SMALL, "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 33}
DISTIL = {
    "pad_token_id": 1,
    "vocab_size": 97,
    "dim": 48,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 40,
    "max_position_embeddings": 33,
}
ALBERT = {**BERT, "embedding_size": 20}
BART = {
    "pad_token_id": 1, "vocab_size": 97, "d_model": 48, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 56, "encoder_attention_heads": 4, "decoder_attention_heads": 6, "max_position_embeddings": 33,
}  # fmt: skip
T5 = {"pad_token_id": 1, "vocab_size": 97, "d_model": 48, "d_kv": 10, "d_ff": 40, "num_layers": 3, "num_heads": 4}
MAMBA = {"pad_token_id": 1, "vocab_size": 97, "hidden_size": 40, "state_size": 8, "num_hidden_layers": 3}
MAMBA2 = {**MAMBA, "num_heads": 8, "head_dim": 10, "n_groups": 2}
GPT = {"pad_token_id": 1, "vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 33}
OPT = {**SMALL, "num_attention_heads": 4, "ffn_dim": 40, "max_position_embeddings": 33, "word_embed_proj_dim": 20}
SUFFIXES = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
JAMBA = {**ATTENTION, "num_hidden_layers": 12, "intermediate_size": 40, "num_experts": 4}
LABELS = {"id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}}

# model_type: (class stem, [(class suffix, base config, changes)])
CASES: dict[str, tuple[str, list[tuple[str, dict[str, Any], dict[str, Any]]]]] = {
    "llama": ("Llama", [(suffix, {**ATTENTION, "intermediate_size": 40}, LABELS) for suffix in SUFFIXES]),
    "gpt2": ("GPT2", [(suffix, GPT, LABELS) for suffix in SUFFIXES]),
    "gptj": ("GPTJ", [(SUFFIXES[n], {**GPT, "rotary_dim": 4}, LABELS) for n in (0, 1, 3)]),
    "opt": ("OPT", [(SUFFIXES[n], OPT, LABELS) for n in (0, 1, 3)]),
    "phi": ("Phi", [(SUFFIXES[n], {**ATTENTION, "intermediate_size": 40}, LABELS) for n in (0, 1, 2)]),
    "mixtral": ("Mixtral", [
        ("ForCausalLM", MIXTRAL, {}),
        ("ForCausalLM", MIXTRAL, {"head_dim": 20, "sliding_window": 16, "tie_word_embeddings": True}),
        ("ForCausalLM", MIXTRAL, {"head_dim": None, "num_key_value_heads": 4}),
        *((suffix, MIXTRAL, LABELS) for suffix in SUFFIXES),
    ]),
    "olmoe": ("Olmoe", [
        ("ForCausalLM", {**ATTENTION, "intermediate_size": 40, "num_experts": 4, "num_experts_per_tok": 2}, change)
        for change in ({}, {"attention_bias": True, "tie_word_embeddings": True, "clip_qkv": 8.0})
    ]),
    "phimoe": ("Phimoe", [
        ("ForCausalLM", MIXTRAL, {}),
        ("ForCausalLM", MIXTRAL, {"attention_bias": True, "lm_head_bias": True}),
        ("ForCausalLM", MIXTRAL, {"lm_head_bias": True, "tie_word_embeddings": True, "sliding_window": 16}),
    ]),
    "granitemoe": ("GraniteMoe", [
        ("ForCausalLM", MIXTRAL, {}),
        ("ForCausalLM", MIXTRAL, {"attention_bias": True, "tie_word_embeddings": True}),
    ]),
    "glm4_moe": ("Glm4Moe", [
        ("ForCausalLM", {**ATTENTION, **ROUTED}, {}),
        ("ForCausalLM", {**ATTENTION, **ROUTED}, {"first_k_dense_replace": 3, "use_qk_norm": True, "head_dim": 20}),
        ("ForCausalLM", {**ATTENTION, **ROUTED}, {"first_k_dense_replace": 0, "attention_bias": True}),
        ("ForCausalLM", {**ATTENTION, **ROUTED}, {"first_k_dense_replace": 9, "tie_word_embeddings": True}),
    ]),
    "deepseek_v2": ("DeepseekV2", [
        ("ForCausalLM", MLA, {}),
        ("ForCausalLM", MLA, {"q_lora_rank": None, "first_k_dense_replace": 2}),
        ("ForCausalLM", MLA, {"attention_bias": True, "mlp_bias": True, "first_k_dense_replace": 1}),
    ]),
    "deepseek_v3": ("DeepseekV3", [
        ("ForCausalLM", MLA, {}),
        ("ForCausalLM", MLA, {"q_lora_rank": None, "first_k_dense_replace": 1, "rope_interleave": False}),
        ("ForCausalLM", MLA, {"attention_bias": True, "tie_word_embeddings": True, "first_k_dense_replace": 0}),
    ]),
    "gpt_oss": ("GptOss", [
        ("ForCausalLM", MIXTRAL, {}),
        ("ForCausalLM", MIXTRAL, {"head_dim": 20, "attention_bias": False, "sliding_window": 16}),
        ("ForCausalLM", MIXTRAL, {"layer_types": ["full_attention"] * 4 + ["sliding_attention"] * 2}),
    ]),
    "qwen2_moe": ("Qwen2Moe", [
        ("ForCausalLM", QWEN2, {}),
        ("ForCausalLM", QWEN2, {"decoder_sparse_step": 2, "qkv_bias": False}),
        ("ForCausalLM", QWEN2, {"mlp_only_layers": [0, 3], "use_sliding_window": True, "max_window_layers": 4}),
        ("ForCausalLM", QWEN2, {"num_experts": 0, "num_experts_per_tok": 1}),
    ]),
    "qwen3_moe": ("Qwen3Moe", [
        ("ForCausalLM", QWEN, {}),
        ("ForCausalLM", QWEN, {"head_dim": 20, "attention_bias": True, "decoder_sparse_step": 3}),
        ("ForCausalLM", QWEN, {"mlp_only_layers": [5], "tie_word_embeddings": True}),
    ]),
    "qwen3_next": ("Qwen3Next", [
        ("ForCausalLM", {**QWEN2, **DELTA}, {"head_dim": 20}),
        ("ForCausalLM", {**QWEN2, **DELTA}, {"full_attention_interval": 3, "attention_bias": True}),
        ("ForCausalLM", {**QWEN2, **DELTA}, {"mlp_only_layers": [1, 2], "decoder_sparse_step": 2}),
        ("ForCausalLM", {**QWEN2, **DELTA}, {"layer_types": ["full_attention"] * 2 + ["linear_attention"] * 4}),
    ]),
    "bert": ("Bert", [
        *((suffix, BERT, LABELS) for suffix in (
            "Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction", "ForSequenceClassification",
            "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice",
        )),
        ("ForMaskedLM", BERT, {"tie_word_embeddings": False, "type_vocab_size": 3}),
        ("LMHeadModel", BERT, {"is_decoder": True, "add_cross_attention": True}),
    ]),
    "roberta": ("Roberta", [
        *((suffix, BERT, LABELS) for suffix in (
            "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
            "ForMultipleChoice",
        )),
        ("ForMaskedLM", BERT, {"tie_word_embeddings": False, "type_vocab_size": 1}),
        ("ForCausalLM", BERT, {"is_decoder": True}),
    ]),
    "distilbert": ("DistilBert", [
        *((suffix, DISTIL, LABELS) for suffix in (
            "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice",
        )),
        ("ForQuestionAnswering", DISTIL, {}),
        ("ForMaskedLM", DISTIL, {"tie_word_embeddings": False, "sinusoidal_pos_embds": True}),
    ]),
    "albert": ("Albert", [
        *((suffix, ALBERT, LABELS) for suffix in (
            "Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification",
            "ForQuestionAnswering", "ForMultipleChoice",
        )),
        ("ForMaskedLM", ALBERT, {"tie_word_embeddings": False}),
        ("Model", ALBERT, {"num_hidden_groups": 2, "inner_group_num": 2}),
    ]),
    "modernbert": ("ModernBert", [
        *((suffix, BERT, LABELS) for suffix in (
            "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
            "ForMultipleChoice",
        )),
        ("ForMaskedLM", BERT, {
            "norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True,
            "decoder_bias": False, "global_attn_every_n_layers": 2,
        }),
        ("ForMaskedLM", BERT, {"tie_word_embeddings": False, "global_attn_every_n_layers": 1}),
        ("ForMaskedLM", BERT, {"layer_types": ["sliding_attention"] + ["full_attention"] * 5}),
    ]),
    "bart": ("Bart", [
        *((suffix, BART, {}) for suffix in (
            "Model", "ForConditionalGeneration", "ForSequenceClassification", "ForQuestionAnswering",
        )),
        ("ForConditionalGeneration", BART, {"tie_word_embeddings": False, "scale_embedding": True}),
        ("ForSequenceClassification", BART, LABELS),
    ]),
    "t5": ("T5", [
        *((suffix, T5, {"num_decoder_layers": 2}) for suffix in ("Model", "ForConditionalGeneration", "EncoderModel")),
        ("ForConditionalGeneration", T5, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
        ("ForConditionalGeneration", T5, {"feed_forward_proj": "gated-silu", "relative_attention_num_buckets": 16}),
    ]),
    "mamba": ("Mamba", [
        ("ForCausalLM", MAMBA, {}),
        ("ForCausalLM", MAMBA, {"use_bias": True, "use_conv_bias": False, "time_step_rank": 5, "conv_kernel": 3}),
        ("ForCausalLM", MAMBA, {"expand": 3, "tie_word_embeddings": False}),
        ("ForCausalLM", MAMBA, {"expand": 16, "intermediate_size": 72, "time_step_rank": "auto"}),
        ("Model", MAMBA, {}),
    ]),
    "falcon_mamba": ("FalconMamba", [
        ("ForCausalLM", MAMBA, {}),
        ("ForCausalLM", MAMBA, {"use_bias": True, "tie_word_embeddings": False, "intermediate_size": 72}),
    ]),
    "mamba2": ("Mamba2", [
        ("ForCausalLM", MAMBA2, {}),
        ("ForCausalLM", MAMBA2, {"use_bias": True, "use_conv_bias": False, "tie_word_embeddings": True}),
        ("ForCausalLM", MAMBA2, {"expand": 4, "head_dim": 20, "n_groups": 8, "conv_kernel": 2}),
    ]),
    "jamba": ("Jamba", [
        ("ForCausalLM", JAMBA, {}),
        ("ForCausalLM", JAMBA, {"attn_layer_period": 3, "attn_layer_offset": 1, "mamba_proj_bias": True}),
        ("ForCausalLM", JAMBA, {"num_experts": 1, "num_experts_per_tok": 1, "mamba_conv_bias": False}),
        ("ForCausalLM", JAMBA, {
            "expert_layer_period": 1, "expert_layer_offset": 0, "mamba_expand": 3, "mamba_dt_rank": 5,
            "mamba_d_state": 6, "mamba_d_conv": 3, "tie_word_embeddings": True,
        }),
    ]),
}  # fmt: skip


def cached(model: Any) -> list[list[list[int]]]:
    """The shapes, without batch, of what each layer keeps after a forward pass over TOKENS tokens."""
    import torch

    with torch.no_grad():
        out = model.eval()(torch.arange(3, 3 + TOKENS)[None], use_cache=True)
    cache = out.past_key_values if "past_key_values" in out else out.cache_params
    shapes = []
    for layer in cache.layers:
        keys = [getattr(layer, name, None) for name in ("keys", "values")]
        states = [
            t for name in ("conv_states", "recurrent_states") for t in (getattr(layer, name, None) or {}).values()
        ]
        shapes.append([list(t.shape[1:]) for t in (*keys, *states) if t is not None])
    return shapes


def record(raw: dict[str, Any], tiny: bool) -> dict[str, Any]:
    """One config's tensors and persistent buffers on the meta device; for a tiny decoder what its cache holds."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(**copy.deepcopy(raw))
    built = getattr(transformers, raw["architectures"][0])
    with torch.device("meta"):
        model = built(config)
    model.tie_weights()
    if raw["model_type"] == "t5" and raw.get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    buffers = model.state_dict().keys() - dict(model.named_parameters(remove_duplicate=False)).keys()
    count = sum(model.state_dict()[name].numel() for name in buffers)
    made: dict[str, Any] = {"config": raw, "tensors": tensors(model), "buffers": count}
    if tiny and raw["architectures"][0].endswith("ForCausalLM") and raw["model_type"] not in ENCODERS:
        made["cache"] = cached(built(config))
    return made


def main() -> None:
    """Write the fixture beside this file."""
    records = []
    for model_type, (stem, cases) in CASES.items():
        needed = NEEDED.get(model_type, {})
        records.append(record({"model_type": model_type, "architectures": [stem + cases[0][0]], **needed}, tiny=False))
        for suffix, base, change in cases:
            raw = {"model_type": model_type, "architectures": [stem + suffix], **base, **change}
            records.append(record(raw, tiny=True))
    path = Path(__file__).with_name("family_variants_other.json")
    path.write_text("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in records) + "\n]\n")
    print(len(records), "records,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
