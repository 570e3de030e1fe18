"""Vision towers in serving engines: what a rank holds of them, and what images add to a trial run."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.commands.kvcache.question import KVCache
from estimator.engines import server_of
from estimator.models import load_model
from estimator.questions.base import ask

MODEL, TEXT = "gemma-3-4b-multimodal", "gemma-3-4b-text"


def rank(model: str, engine: str = "vllm", version: str = "0.13.0", **more: Any) -> Any:
    """The rank of a question on H200s."""
    options = {"engine": engine, "engine_version": version, "gpu": "h200", **more}
    return server_of(engine).plan(server_of(engine).read(ask(KVCache, model, options)))


def tower_bytes(model: str) -> int:
    """Bytes of all towers in bf16."""
    return sum(int(w.total) for t in load_model(model).architecture.towers for w in t.weights()) * 2


@pytest.mark.parametrize(("engine", "cut"), [("vllm", True), ("sglang", True), ("tgi", False)])
def test_ranks_share_a_tower(engine: str, cut: bool) -> None:
    """SigLIP's layers are cut over two ranks as the text's are (siglip.py of vLLM, vision.py of SGLang)."""
    version = {"vllm": "0.13.0", "sglang": "0.5.9", "tgi": "3.0.0"}[engine]
    both = [rank(MODEL, engine, version, tensor_parallel=t).weights for t in (1, 2)]
    text = [rank(TEXT, engine, version, tensor_parallel=t).weights for t in (1, 2)]
    one, two = (a - b for a, b in zip(both, text, strict=True))
    assert one == pytest.approx(tower_bytes(MODEL), rel=0.01)
    assert two == pytest.approx(one / 2 if cut else one, rel=0.03)
