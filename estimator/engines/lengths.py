"""How long a sequence an engine admits: what it refuses at its start, and of requests.

vLLM 0.19.0, config/model.py, _get_and_verify_max_len; SGLang 0.5.9, srt/configs/model_config.py,
_derive_context_length, and srt/utils/hf_transformers_utils.py, get_context_length. What TensorRT-LLM and TGI do beyond
a model's positions is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from estimator.errors import InputError
from estimator.models import Model
from estimator.trace import value_of

# the environment variable that lets an engine start beyond the model's own length
ANYHOW = {"vllm": "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", "sglang": "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1"}
UNSCALED = (None, "default", "su", "longrope", "llama3")  # whose positions hold the factor, as vLLM has it
YARN, ORIGINAL = "yarn", "original_max_position_embeddings"


def rope_of(model: Model) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The fields of the text's config, and what they say of the rotary embedding."""
    raw: Mapping[str, Any] = model.config.raw if model.config else {}
    text = raw.get("text_config")
    fields = text if isinstance(text, Mapping) else raw
    said = fields.get("rope_parameters") or fields.get("rope_scaling")
    return fields, said if isinstance(said, Mapping) else {}


def most_tokens(model: Model, engine: str) -> int | None:
    """The longest ``--max-model-len`` with which the engine starts; None where the model names no positions."""
    positions = model.architecture.max_positions
    if positions is None:
        return None
    fields, said = rope_of(model)
    kinds = [v for v in said.values() if isinstance(v, Mapping)] or [said]
    found = [_scaled(int(value_of(positions)), x, engine) for x in kinds]
    stated = fields.get("model_max_length") if engine == "vllm" else None
    return max(*found, int(value_of(positions)), stated if isinstance(stated, int) else 0)


def _scaled(positions: int, said: Mapping[str, Any], engine: str) -> int:
    """The positions of one kind of layer, stretched where the engine stretches them."""
    kind, factor, original = said.get("rope_type", said.get("type")), said.get("factor"), said.get(ORIGINAL)
    if kind in UNSCALED or not isinstance(factor, int | float) or isinstance(factor, bool):
        return positions
    if isinstance(original, int) and (engine == "sglang" or kind == YARN):
        return positions if engine == "sglang" else int(original * Fraction(str(factor)))
    return int(positions * Fraction(str(factor)))





def refused(model: Model, engine: str, length: int) -> str:
    """What to say of a longest sequence beyond the model's positions; "" where the engine starts with it."""
    most = most_tokens(model, engine)
    if most is None or length <= most:
        return ""
    beyond = f"--max-model-len {length:,} is beyond the model's {most:,} positions"
    if engine not in ANYHOW:
        return f"{beyond}."
    return f"{beyond}: {engine} does not start so without {ANYHOW[engine]}, or a config with rope scaling."


def check_request(q: Any, engine: str, length: int, prompt: int, new: int) -> None:
    """InputError for requests that are longer than ``--max-model-len``, where both are given."""
    if q.max_model_len is not None and q.seq_len is not None and prompt + new > length:
        more = f" and {new:,} new tokens" if new else ""
        raise InputError(
            f"--seq-len {prompt:,}{more}: {engine} rejects requests longer than --max-model-len {length:,}. "
            f"Give --max-model-len {prompt + new}, or shorter ones"
        )


def too_long(engine: str, length: int, context: int) -> str:
    """What to say of requests longer than the model's own length, where no other was given."""
    if context <= length:
        return ""
    return f"{engine} rejects requests longer than the model's {length:,} tokens (--max-model-len)."
