"""Qwen's models that see: a Qwen text model behind a Qwen tower.

Qwen2-VL and Qwen2.5-VL hold a Qwen 2, Qwen3-VL a Qwen 3 (dense or with experts), Qwen3.5 its own. Older files of
Qwen2-VL and Qwen2.5-VL keep the text's fields at the top level.
Source: transformers 5, models/qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_vl_moe, qwen3_5 and qwen3_5_moe,
configuration_*.py and modeling_*.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common_gguf import Gguf
from estimator.families.common_tower import part, text_model, tower_of, wrapped

_SECOND = {
    "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "max_window_layers": 80,
}  # fmt: skip
_THIRD = {
    "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 128000,
}  # fmt: skip
_EXPERTS = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 16,
    "num_key_value_heads": 16, "max_position_embeddings": 128000, "moe_intermediate_size": 1408,
    "num_experts_per_tok": 4, "num_local_experts": 60, "tie_word_embeddings": True,
}  # fmt: skip
# text type: (the family that it is, what its config class starts from where that family's differs)
TEXTS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "qwen2_vl_text": ("qwen2", _SECOND),
    "qwen2_5_vl_text": ("qwen2", _SECOND),
    "qwen3_vl_text": ("qwen3", _THIRD),
    "qwen3_vl_moe_text": ("qwen3_moe", _EXPERTS),
}
FLAT = ("qwen2_vl", "qwen2_5_vl")  # types whose older files have no text_config
GGUF = {
    "qwen2_vl_text": Gguf("qwen2vl", positions=4),
    "qwen2_5_vl_text": Gguf("qwen2vl", positions=4),
    "qwen3_vl_text": Gguf("qwen3vl", positions=4, deepstack=3),
    "qwen3_vl_moe_text": Gguf("qwen3vlmoe", positions=4, deepstack=3),
}


def text_of(c: Config, tied: bool | None = None) -> Architecture:
    """The text model of one of :data:`TEXTS`, or of a family of its own."""
    kind = c.text("model_type", "")
    family, defaults = TEXTS.get(kind, (kind, {}))
    given = {k: v for k, v in c.raw.items() if v is not None or k not in defaults}
    raw = {**defaults, **given, "model_type": family}
    if family == "qwen3_moe" and c.raw.get("num_experts") is not None:
        raw.pop("num_local_experts", None)
    return text_model(c, Config(raw, c.traced, c.where), tied)


def build(c: Config) -> Architecture:
    """The whole model, or its text alone where the config is the text's."""
    kind = c.text("model_type", "")
    if kind in TEXTS:
        return text_of(c)._replace(model_type=kind)
    if kind in FLAT and c.raw.get("text_config") is None:
        fields = {k: v for k, v in c.raw.items() if k not in ("vision_config", "architectures")}
        text = Config({**fields, "model_type": f"{kind}_text"}, c.traced, c.where)
    else:
        text = part(c, "text_config", f"{kind}_text")
        text = Config({**text.raw, "model_type": f"{kind}_text"}, c.traced, text.where)
    tied = c.flag("tie_word_embeddings", False) or (kind in FLAT and text.flag("tie_word_embeddings", False))
    vision = part(c, "vision_config", f"{kind}_vision")
    seen = Config({**vision.raw, "model_type": f"{kind}_vision"}, False, vision.where)
    made = wrapped(c, text_of(text, tied), (tower_of(seen, "model.visual"),))
    c.heed(text)
    return made
