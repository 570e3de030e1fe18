"""``params.json``, the config of Mistral's and Meta's own releases, as a config.json.

Sources: mistral-inference src/mistral_inference/args.py (TransformerArgs), llama-models models/llama3/args.py
(ModelArgs) and llama3/model.py (FeedForward: 2/3 of 4 dim, times ffn_dim_multiplier, up to a multiple of multiple_of).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.config import Config
from estimator.errors import InputError

LLAMA_2_VOCABULARY = 32_000  # Meta's params.json of Llama 1 and 2 says -1: as the tokenizer has


def config_of(params: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """(config.json's fields, notes) of a params.json. InputError where it is none."""
    if isinstance(params.get("text_config"), Mapping) or ("dim" not in params and "n_layers" not in params):
        raise InputError(f"{where}: has no dim and n_layers, so it is no params.json of Mistral or Meta")
    c = Config({k: v for k, v in params.items() if v != -1}, where=where)
    d, heads = c.plain("dim", least=1), c.plain("n_heads", least=1)
    raw: dict[str, Any] = {
        "hidden_size": d, "num_hidden_layers": c.plain("n_layers", least=1), "num_attention_heads": heads,
        "num_key_value_heads": c.plain("n_kv_heads", heads, least=1),
        "head_dim": c.plain("head_dim", d // heads, least=1), "vocab_size": c.plain("vocab_size", LLAMA_2_VOCABULARY),
        "tie_word_embeddings": c.flag("tied_embeddings", False),
    }  # fmt: skip
    notes = [f"config derived from {where}"]
    if "vocab_size" not in c.raw:
        notes.append(f"{where}: states no vocabulary; {LLAMA_2_VOCABULARY:,} was taken, Llama 2's")
    raw["intermediate_size"] = c.plain("hidden_dim", _feed_forward(c, d), least=1)
    for theirs, ours in (("rope_theta", "rope_theta"), ("sliding_window", "sliding_window"),
                         ("max_position_embeddings|max_seq_len", "max_position_embeddings")):  # fmt: skip
        value = next((params[n] for n in theirs.split("|") if params.get(n) is not None), None)
        if isinstance(value, int | float):
            raw[ours] = value
    moe = params.get("moe")
    if isinstance(moe, Mapping):
        own = Config(moe, where=f"{where}: moe")
        raw |= {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"],
                "num_local_experts": own.plain("num_experts", least=1),
                "num_experts_per_tok": own.plain("num_experts_per_tok", 2, least=1)}  # fmt: skip
        return raw, notes
    meta = "hidden_dim" not in params or "ffn_dim_multiplier" in params
    kind = "llama" if meta else "mistral"
    raw |= {"model_type": kind, "architectures": ["LlamaForCausalLM" if meta else "MistralForCausalLM"]}
    if isinstance(params.get("vision_encoder"), Mapping):
        notes.append(f"WARNING: {where}: its vision_encoder is not counted")
    storage = params.get("quantization")
    if isinstance(storage, Mapping):
        kind = str(storage.get("qformat_weight", ""))
        raw["quantization_config"] = {"quant_method": "fp8" if kind.startswith("fp8") else kind or "params.json"}
    return raw, notes


def _feed_forward(c: Config, d: int) -> int:
    """Meta's width: 2/3 of 4 d, times ffn_dim_multiplier, up to a multiple of multiple_of."""
    width = int(2 * 4 * d / 3)
    multiplier = c.number("ffn_dim_multiplier", 1.0)
    multiple = c.plain("multiple_of", 256, least=1)
    width = int(multiplier * width)
    return max(1, -(-width // multiple) * multiple)
