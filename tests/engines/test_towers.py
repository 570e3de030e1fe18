"""Vision towers in serving engines: what a rank holds of them, and what images add to a trial run."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.commands.kvcache.question import KVCache
from estimator.engines import server_of
from estimator.errors import InputError
from estimator.models import load_model
from estimator.questions.base import ask
from tests.engines.cases import model_of
from tests.engines.test_fresh import FRESH

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


def film(**more: Any) -> Any:
    """The rank of Qwen2.5-VL-7B by its config, on an A100."""
    start = next(r for r in FRESH if r["id"] == "vllm-0.23.0/qwen2.5-vl-7b/a100-80gb/activation")
    options = {"engine": "vllm", "gpu": "a100-80gb", **more}
    return server_of("vllm").plan(server_of("vllm").read(ask(KVCache, model_of(start), options)))


@pytest.mark.parametrize(
    ("version", "length", "tokens"),
    [("0.23.0", 128_000, 7), ("0.23.0", 60_000, 3), ("0.23.0", 32_767, 1), ("0.23.0", 8192, 1), ("0.11.0", 128_000, 1)],
)
def test_a_video_is_profiled_where_it_is_larger_than_an_image(version: str, length: int, tokens: int) -> None:
    """Two frames are a step of 16,384 tokens; at most 14 frames, and at most the longest sequence."""
    more = {"engine_version": version, "max_model_len": length}
    both, image = film(**more), film(**more, limit_mm_per_prompt="video=0")
    per_step = 65_536 * (1176 + 5 * 1280 + 3 * 3420) * 2  # pixels and what lives in an MLP, of 65,536 patches
    assert both.activation - image.activation == (tokens - 1) * per_step


@pytest.mark.parametrize("none", ["image=0,video=0", '{"image": 0, "video": 0}', {"image": 0, "video": 0}])
def test_a_prompt_without_images_profiles_none(none: Any) -> None:
    """The trial run is then the text's, which is Qwen2.5-7B's."""
    more = {"engine_version": "0.23.0", "max_model_len": 32768}
    text = rank("qwen2.5-7b", gpu="a100-80gb", engine_version="0.23.0", max_model_len=32768)
    assert film(**more, limit_mm_per_prompt=none).activation == text.activation


LONG = "video=0," * 24 + "video=00junk"  # its first 200 characters would be some


@pytest.mark.parametrize(
    "text", [LONG, "x", "video", "video=-1", "film=0", '{"video": []}', "{", '{"image": 1e9}', "[0]"]
)
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"--limit-mm-per-prompt .* expected"):
        film(limit_mm_per_prompt=text)
