"""Write family_variants_dense.json: every tensor of transformers' dense decoders, over the switches of their configs.

Needs torch and transformers (5.23.0 when the file was written); the tests do not. Each record holds

config   as it would stand in a config.json
tensors  [name with indices as {i}, shape, how many] of the unique parameters, built on the meta device
cache    for tiny configs: [heads, tokens, width] of every layer's cached keys after a forward pass over TOKENS tokens
rope     width of the rotary embedding, where the model has one and only one

Run: python tests/data/make_family_variants_dense.py
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

TOKENS = 24
HF = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5, "num_attention_heads": 8,
    "vocab_size": 120, "max_position_embeddings": 40, "pad_token_id": 0,
}  # fmt: skip
GPT = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 40, "vocab_size": 120}
KV = {"num_key_value_heads": 2}
FULL, WIN = "full_attention", "sliding_attention"
MIXED = {"layer_types": [FULL, WIN, WIN, FULL, WIN], "sliding_window": 8}
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 28, "patch_size": 7,
}  # fmt: skip
GEMMA3_TEXT = {**HF, **KV, "head_dim": 16, "sliding_window": 8}

# model_type -> (tiny base, variations of it)
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "llama": ({**HF, **KV}, [
        {}, {"num_key_value_heads": None}, {"attention_bias": True}, {"mlp_bias": True},
        {"tie_word_embeddings": True}, {"head_dim": 24}, {"pretraining_tp": 2},
    ]),
    "smollm3": ({**HF, **KV}, [
        {}, {"no_rope_layer_interval": 2}, {"no_rope_layers": [1, 0, 0, 1, 1]}, {"num_key_value_heads": None},
        {"use_sliding_window": True, "sliding_window": 8}, {"use_sliding_window": True, **MIXED},
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    ]),
    "qwen2": ({**HF, **KV}, [
        {}, {"tie_word_embeddings": True}, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
        {"use_sliding_window": True, **MIXED},
        {"head_dim": 24}, {"num_key_value_heads": None}, {"sliding_window": 8, "max_window_layers": 2},
    ]),
    "qwen3": ({**HF, **KV}, [
        {}, {"head_dim": 16}, {"attention_bias": True}, {"use_sliding_window": True, **MIXED},
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2, "tie_word_embeddings": True},
    ]),
    "mistral": (HF, [
        {"sliding_window": 8}, {"sliding_window": None, **KV}, {"head_dim": 24}, {},
    ]),
    "gpt2": (GPT, [
        {}, {"n_inner": 100}, {"tie_word_embeddings": False}, {"n_ctx": 20},
    ]),
    "gpt_neox": (HF, [
        {}, {"use_parallel_residual": False}, {"attention_bias": False}, {"rotary_pct": 1.0},
        {"rotary_pct": 0.5, "tie_word_embeddings": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ]),
    "gpt_neo": (
        {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 120, "max_position_embeddings": 40,
         "attention_types": [[["global", "local"], 2]], "window_size": 8}, [
            {}, {"intermediate_size": 100}, {"tie_word_embeddings": False},
            {"attention_types": [[["global"], 1], [["local", "local", "global"], 1]]},
            {"attention_types": [[["global"], 4]]},
        ]),
    "gptj": ({**GPT, "rotary_dim": 8}, [{}, {"n_inner": 100}, {"tie_word_embeddings": True}]),
    "gpt_bigcode": (GPT, [{}, {"multi_query": False}, {"n_inner": 100, "tie_word_embeddings": False}]),
    "opt": ({"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 96, "vocab_size": 120,
             "max_position_embeddings": 40}, [
        {}, {"word_embed_proj_dim": 32}, {"word_embed_proj_dim": 32, "do_layer_norm_before": False},
        {"enable_bias": False}, {"layer_norm_elementwise_affine": False}, {"_remove_final_layer_norm": True},
        {"word_embed_proj_dim": 32, "tie_word_embeddings": False}, {"word_embed_proj_dim": 64},
    ]),
    "bloom": ({"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 120}, [
        {}, {"n_embed": 32}, {"tie_word_embeddings": False}, {"apply_residual_connection_post_layernorm": True},
    ]),
    "gemma": ({**HF, **KV, "head_dim": 16}, [{}, {"attention_bias": True}, {"tie_word_embeddings": False}]),
    "gemma2": ({**HF, **KV, "head_dim": 16, "sliding_window": 8}, [
        {}, MIXED, {"attention_bias": True, "attn_logit_softcapping": None}, {"tie_word_embeddings": False},
    ]),
    "gemma3_text": ({**GEMMA3_TEXT, "num_hidden_layers": 7}, [
        {}, {"sliding_window_pattern": 3}, {"num_hidden_layers": 5, **MIXED}, {"attention_bias": True},
        {"tie_word_embeddings": False}, {"use_bidirectional_attention": True},
    ]),
    "gemma3": ({}, [
        {"text_config": GEMMA3_TEXT, "vision_config": SIGLIP, "mm_tokens_per_image": 4},
        {"text_config": {**GEMMA3_TEXT, "model_type": "gemma3_text"},
         "vision_config": {**SIGLIP, "vision_use_head": False}, "mm_tokens_per_image": 4, "tie_word_embeddings": False},
    ]),
    "phi": (HF, [
        {}, KV, {"qk_layernorm": True}, {"qk_layernorm": True, **KV, "tie_word_embeddings": True},
        {"partial_rotary_factor": 0.25},
    ]),
    "phi3": ({**HF, "sliding_window": 8}, [
        {}, KV, {"sliding_window": None, "tie_word_embeddings": True}, {"partial_rotary_factor": 0.75},
        {"head_dim": 12},
    ]),
    "falcon": ({"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 8, "vocab_size": 120}, [
        {}, {"bias": True}, {"alibi": True}, {"multi_query": False}, {"parallel_attn": False},
        {"parallel_attn": False, "multi_query": False, "alibi": True, "bias": True}, {"ffn_hidden_size": 100},
        {"new_decoder_architecture": True}, {"new_decoder_architecture": True, "num_kv_heads": 2},
        {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
        {"num_kv_heads": 8, "tie_word_embeddings": False}, {"n_embed": 32},
    ]),
    "mpt": ({"d_model": 64, "n_heads": 4, "n_layers": 3, "vocab_size": 120, "max_seq_len": 40}, [
        {}, {"no_bias": False}, {"expansion_ratio": 2}, {"tie_word_embeddings": False},
        {"attn_config": {"clip_qkv": 6.0, "qk_ln": True, "attn_type": "multiquery_attention"}},
    ]),
    "starcoder2": ({**HF, **KV}, [
        {}, {"use_bias": False}, {"sliding_window": 8}, {"norm_type": "rms_norm"}, {"tie_word_embeddings": False},
    ]),
    "olmo": (HF, [{}, KV, {"clip_qkv": 8.0, "attention_bias": True}, {"tie_word_embeddings": True}]),
    "olmo2": (HF, [{}, KV, {"attention_bias": True, "tie_word_embeddings": True}]),
    "granite": ({**HF, **KV}, [
        {}, {"num_key_value_heads": None}, {"attention_bias": True}, {"mlp_bias": True, "tie_word_embeddings": True},
        {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "logits_scaling": 8.0},
    ]),
    "cohere": (HF, [{}, KV, {"use_qk_norm": True, **KV}, {"attention_bias": True}, {"tie_word_embeddings": False}]),
    "cohere2": ({**HF, **KV, "sliding_window": 8}, [
        {}, {"sliding_window_pattern": 2}, MIXED, {"attention_bias": True, "tie_word_embeddings": False},
    ]),
    "stablelm": ({**HF, "num_key_value_heads": 8}, [
        {}, KV, {"use_qkv_bias": True}, {"qk_layernorm": True, **KV}, {"use_parallel_residual": True, "rope_parameters":
         {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, {"tie_word_embeddings": True},
    ]),
    "glm": ({**HF, "head_dim": 16}, [
        {}, {"attention_bias": False}, {"num_key_value_heads": 4}, {"partial_rotary_factor": 1.0},
        {"tie_word_embeddings": True},
    ]),
}  # fmt: skip


def tensors(model: torch.nn.Module) -> list[list[Any]]:
    """[name pattern, shape, count] of the unique parameters."""
    counts: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for name, p in model.named_parameters():
        counts[re.sub(r"\.\d+(?=\.)", ".{i}", name), tuple(p.shape)] += 1
    return [[name, list(shape), n] for (name, shape), n in counts.items()]


def record(config: dict[str, Any], tiny: bool) -> dict[str, Any]:
    """Build the model of one config, and run it where it is tiny."""
    plain = json.loads(json.dumps(config))
    auto = AutoModelForImageTextToText if config["model_type"] == "gemma3" else AutoModelForCausalLM
    with torch.device("meta"):
        made: dict[str, Any] = {"config": config, "tensors": tensors(auto.from_config(AutoConfig.for_model(**plain)))}
    if tiny:
        model = auto.from_config(AutoConfig.for_model(**json.loads(json.dumps(config)))).eval()
        with torch.no_grad():
            past = model(torch.arange(3, 3 + TOKENS)[None], use_cache=True).past_key_values
        made["cache"] = [list(layer.keys.shape[1:]) for layer in past.layers]
        rotary = [m for n, m in model.named_modules() if n.endswith("rotary_emb") and hasattr(m, "inv_freq")]
        if len(rotary) == 1:
            made["rope"] = 2 * rotary[0].inv_freq.numel()
    return made


def main() -> None:
    """Write the fixture beside this file."""
    records = []
    for model_type, (base, variations) in CASES.items():
        if model_type != "gemma3":
            records.append(record({"model_type": model_type}, tiny=False))
        for change in variations:
            records.append(record({"model_type": model_type, **base, **change}, tiny=True))
    path = Path(__file__).with_name("family_variants_dense.json")
    path.write_text("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in records) + "\n]\n")
    print(len(records), "records,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
