"""A config.json-like mapping from the metadata of a GGUF header.

Source: the keys of llama.cpp's gguf-py/gguf/constants.py and what convert_hf_to_gguf.py writes into them.
"""

from __future__ import annotations

from typing import Any

from estimator.headers import Header

# GGUF architecture -> transformers model_type, where llama.cpp's loader and the class compute the same
_MODEL_TYPES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe",
    "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "phi3": "phi3", "gpt2": "gpt2", "mistral": "mistral",
    "starcoder2": "starcoder2", "stablelm": "stablelm", "olmo": "olmo", "olmo2": "olmo2", "olmoe": "olmoe",
    "gpt-oss": "gpt_oss",
    "granite": "granite", "granitemoe": "granitemoe", "command-r": "cohere", "cohere2": "cohere2", "mamba": "mamba",
    "gptneox": "gpt_neox", "smollm3": "smollm3",
}  # fmt: skip
# key after "<architecture>." -> config field
_FIELDS = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "context_length": "max_position_embeddings", "vocab_size": "vocab_size",
    "attention.sliding_window": "sliding_window", "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok", "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "rope.dimension_count": "_rope_dim", "ssm.conv_kernel": "conv_kernel", "ssm.inner_size": "_inner_size",
    "ssm.state_size": "state_size", "ssm.time_step_rank": "time_step_rank",
}  # fmt: skip
_RENAMED = {
    "gpt2": {
        "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions", "intermediate_size": "n_inner",
    },
    "mixtral": {"num_experts": "num_local_experts"},
    "granitemoe": {"num_experts": "num_local_experts"},
    "gpt_oss": {"num_experts": "num_local_experts"},
}  # fmt: skip
_ONE_EXPERT_WIDTH = {"mixtral", "olmoe", "granitemoe", "gpt_oss"}  # classes whose intermediate_size is an expert's


def to_config(header: Header) -> tuple[dict[str, Any] | None, list[str]]:
    """A config.json-like mapping from a GGUF header, with notes of what was inferred; None where there is none."""
    meta = header.metadata
    arch = str(meta.get("general.architecture", ""))
    if arch not in _MODEL_TYPES:
        return None, [
            f"{header.path}: GGUF architecture {arch[:40]!r} has no counterpart here; only its tensors are counted"
        ]
    config = {field: meta[f"{arch}.{key}"] for key, field in _FIELDS.items() if f"{arch}.{key}" in meta}
    shapes = {t.name: t.shape for t in header.tensors}
    kind = _MODEL_TYPES[arch]
    if arch == "llama" and config.get("num_experts"):
        kind = "mixtral"
    config = {name: value for name, value in config.items() if not (isinstance(value, list) and not value)}
    for name, value in config.items():
        if isinstance(value, list):
            if len(set(value)) != 1:
                return None, [f"{header.path}: {name} differs from layer to layer; only its tensors are counted"]
            config[name] = value[0]
    _from_tensors(config, kind, shapes)
    for old, new in _RENAMED.get(kind, {}).items():
        if old in config:
            config[new] = config.pop(old)
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    return {"model_type": kind, **config}, [f"config derived from the GGUF metadata of architecture {arch!r}"]


def _from_tensors(config: dict[str, Any], kind: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """What the tensors themselves say: vocabulary, tied head, biases, which width is an expert's."""
    if "token_embd.weight" in shapes:
        config["vocab_size"] = shapes["token_embd.weight"][0]
    config["tie_word_embeddings"] = "output.weight" not in shapes
    if kind in ("llama", "mistral", "granite", "qwen3", "qwen3_moe", "olmo2"):
        config["attention_bias"] = "blk.0.attn_q.bias" in shapes
    if kind in ("llama", "granite"):
        config["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    if kind in _ONE_EXPERT_WIDTH and "moe_intermediate_size" in config:
        config["intermediate_size"] = config.pop("moe_intermediate_size")
    if kind in ("gpt_neox", "stablelm", "phi3") and config.get("head_dim") is None and config.get("_rope_dim"):
        width = config["hidden_size"] // max(1, config["num_attention_heads"])
        config["partial_rotary_factor"] = config["_rope_dim"] / max(1, width)
    if kind == "mamba" and config.get("_inner_size"):
        config["expand"] = max(1, config["_inner_size"] // config["hidden_size"])
        config["intermediate_size"] = config["_inner_size"]
