"""The type that engines keep a recurrent state in."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.commands.kvcache.question import KVCache
from estimator.config import Config
from estimator.engines import server_of
from estimator.engines.pool import _state_width
from estimator.families.base import StateSpace
from estimator.models import Model, load_model
from estimator.questions.base import ask


@pytest.mark.parametrize(
    ("model", "said", "engine", "version", "width"),
    [
        ("qwen3-next-80b-a3b", {}, "vllm", "0.13.0", 2), ("qwen3-next-80b-a3b", {}, "sglang", "0.5.9", 4),
        ("qwen3-next-80b-a3b", {"mamba_ssm_dtype": "float32"}, "vllm", "0.13.0", 4),
        ("qwen3-next-80b-a3b", {"mamba_ssm_dtype": "bfloat16"}, "sglang", "0.5.9", 2),
        ("qwen3-next-80b-a3b", {"mamba_ssm_cache_dtype": "float32"}, "vllm", "0.12.0", 2),
        ("qwen3-next-80b-a3b", {"mamba_ssm_cache_dtype": "float32"}, "vllm", "0.13.0", 4),
        ("qwen3-next-80b-a3b", {"mamba_ssm_cache_dtype": "auto"}, "vllm", "0.13.0", 2),
        ("jamba-v0.1", {}, "vllm", "0.19.0", 2), ("kimi_linear", {}, "vllm", "0.19.0", 4),
    ],
)  # fmt: skip
def test_a_states_type(model: str, said: dict[str, Any], engine: str, version: str, width: int) -> None:
    """As the config says, where the engine reads it; else vLLM keeps the activations' type and SGLang fp32."""
    raw = load_model(model).config.raw.copied() if model != "kimi_linear" else {"model_type": model}
    changed = Model(model, "file", Config({**raw, **said}))
    options = {"engine": engine, "engine_version": version, "gpu": "h200", "tensor_parallel": 8}
    asked = server_of(engine).read(ask(KVCache, changed, options))
    mixers = [g.mixer for g in asked.arch.layers if isinstance(g.mixer, StateSpace)]
    assert {_state_width(asked, m) for m in mixers} == {width}
