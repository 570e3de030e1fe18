"""What servers take where their user says nothing, as the sources have it that the modules name, and public logs.

The start of granite-4.0-micro in vLLM 0.11.0 on an L40S printed 67 sizes of pieces and 35 of whole decode steps.
"""

from __future__ import annotations

from typing import Any

import pytest

from estimator.commands.kvcache.question import KVCache
from estimator.engines import server_of, sglang, vllm_defaults
from estimator.engines.weights import mxfp4_tiles
from estimator.questions.base import ask


def asked(model: str, engine: str, gpu: str, version: str, **more: Any) -> Any:
    q = ask(KVCache, model, {"engine": engine, "gpu": gpu, "engine_version": version} | more)
    return server_of(engine).read(q)


@pytest.mark.parametrize(
    ("gpu", "version", "sizes"),
    [
        ("h100-sxm", "0.19.0", (1024, 8192)), ("a100-80gb", "0.19.0", (256, 2048)),
        ("a100-80gb", "0.8.5", (1024, 8192)),
        ("l40s", "0.11.0", (256, 2048)), ("b200", "0.24.0", (1024, 8192)), ("b200", "0.28.0", (1024, 16384)),
        ("dgx-spark", "0.13.0", (256, 2048)), ("dgx-spark", "0.33.0", (256, 2048)),
    ],
)  # fmt: skip
def test_vllm_by_card_and_version(gpu: str, version: str, sizes: tuple[int, int]) -> None:
    """engine/arg_utils.py, get_batch_defaults."""
    assert vllm_defaults.sizes_of(asked("llama-3.1-8b", "vllm", gpu, version)) == sizes


@pytest.mark.parametrize(
    ("model", "version", "more", "tokens"),
    [
        ("llama-3.1-8b", "0.6.4", {}, 512), ("llama-3.1-8b", "0.7.3", {}, 2048),
        ("llama-3.1-8b", "0.7.3", {"max_model_len": 32768}, 32768), ("llama-3.1-8b", "0.7.3", {"max_loras": 1}, 131072),
        ("llama-3.1-8b", "0.7.3", {"max_model_len": 1024}, 2048), ("gemma-3-4b-text", "0.7.3", {}, 131072),
        ("gemma-3-4b-multimodal", "0.7.3", {}, 131072),
    ],
)  # fmt: skip
def test_vllms_first_engine_takes_long_prompts_in_chunks(
    model: str, version: str, more: dict[str, Any], tokens: int
) -> None:
    """engine/arg_utils.py of 0.6.4 and 0.7.3, create_engine_config; config.py of both, SchedulerConfig."""
    assert vllm_defaults.sizes_of(asked(model, "vllm", "l40s", version, **more))[1] == tokens


def test_ranks_over_pcie_keep_less_outside_the_allocator() -> None:
    """Starts of two RTX 4090 (0.7.2: 0.25 GiB) and of H100s with NVLink (2.06 to 2.11)."""
    sizes = {
        gpu: server_of("vllm").plan(asked("llama-3.1-8b", "vllm", gpu, "0.19.0", tensor_parallel=2)).other
        for gpu in ("rtx-4090", "rtx-3090", "h100-sxm")
    }  # fmt: skip
    assert sizes["rtx-4090"] == sizes["rtx-3090"] < sizes["h100-sxm"]


def test_vllm_bounds_sequences_and_tokens_by_each_other() -> None:
    """arg_utils.py of 0.19.0: no more sequences than tokens, no more tokens than all sequences have."""
    few = asked("llama-3.1-8b", "vllm", "h100-sxm", "0.19.0", max_num_batched_tokens=32)
    assert vllm_defaults.sizes_of(few) == (32, 32)
    short = asked("llama-3.1-8b", "vllm", "h100-sxm", "0.19.0", max_num_seqs=4, max_model_len=512)
    assert vllm_defaults.sizes_of(short) == (4, 2048)
    whole = asked("modernbert-base", "vllm", "l4", "0.19.0")  # an encoder's prompts are not cut
    assert vllm_defaults.sizes_of(whole) == (256, 8192)


@pytest.mark.parametrize(("version", "share"), [("0.19.0", 0.90), ("0.20.2", 0.92), ("0.33.0", 0.92)])
def test_vllms_share_of_the_card(version: str, share: float) -> None:
    assert float(vllm_defaults.utilisation(asked("llama-3.1-8b", "vllm", "l4", version))) == share


@pytest.mark.parametrize(
    ("model", "gpu", "version", "more", "block"),
    [
        ("llama-3.1-8b", "h100-sxm", "0.11.0", {}, 16), ("deepseek-v3", "h200", "0.11.0", {}, 64),
        ("deepseek-v3", "h200", "0.19.0", {}, 16), ("deepseek-v3", "h200", "0.19.0", {"kv_dtype": "fp8"}, 64),
        ("deepseek-v3", "b200", "0.11.0", {}, 128), ("deepseek-v3", "b200", "0.17.1", {}, 64),
        ("deepseek-v3", "b200", "0.19.0", {}, 32), ("deepseek-v3", "a100-80gb", "0.11.0", {}, 16),
        ("deepseek-v3", "h200", "0.19.0", {"block_size": 32}, 32),
    ],
)  # fmt: skip
def test_vllms_blocks_by_kernel(model: str, gpu: str, version: str, more: dict[str, Any], block: int) -> None:
    """platforms/cuda.py and the kernels' own sizes."""
    assert vllm_defaults.block_of(asked(model, "vllm", gpu, version, **more)) == block


def test_vllms_graphs_are_as_many_as_a_log_says() -> None:
    log = asked("llama-3.1-8b", "vllm", "l40s", "0.11.0")
    sizes = vllm_defaults.captured(log, 256, 8192)
    assert (len(sizes), max(sizes), sum(n <= 256 for n in sizes)) == (67 + 35, 512, 2 * 35)
    assert len(vllm_defaults.captured(asked("llama-3.1-8b", "vllm", "l40s", "0.10.2"), 256, 8192)) == 67
    both = vllm_defaults.captured(asked("llama-3.1-8b", "vllm", "h100-sxm", "0.19.0"), 1024, 8192)
    assert len(both) == 2 * 51
    small = vllm_defaults.captured(asked("llama-3.1-8b", "vllm", "h100-sxm", "0.12.0"), 16, 16)
    assert sorted(set(small)) == [1, 2, 4, 8, 16]  # a log of 0.12.0 with 16 tokens a step


@pytest.mark.parametrize(
    ("gpu", "version", "ranks", "share"),
    [
        ("h100-sxm", "0.4.4", 1, 0.88), ("h100-sxm", "0.4.4", 8, 0.81), ("h200", "0.4.6", 1, 1 - 13 * 1024 / 143771),
        ("h100-sxm", "0.4.9", 2, 0.868), ("h100-sxm", "0.5.9", 1, 0.835), ("l4", "0.5.3", 1, 0.837),
        ("h200", "0.5.12", 1, 0.903),
    ],
)  # fmt: skip
def test_sglangs_share_by_version(gpu: str, version: str, ranks: int, share: float) -> None:
    """server_args.py of each."""
    found = asked("qwen2.5-7b", "sglang", gpu, version, tensor_parallel=ranks if ranks < 8 else 4)
    if ranks == 8:  # qwen2.5-7b's 28 heads go by four
        found = asked("llama-3.1-8b", "sglang", gpu, version, tensor_parallel=8)
    assert float(sglang.fraction(found)) == pytest.approx(share, abs=0.0006)


def test_sglangs_share_of_a_model_that_sees() -> None:
    """model_runner.py of 0.4.4: 0.95 of it; server_args.py of 0.5.9: by the tower's 27 layers of 1,152."""
    old, new = (asked("gemma-3-4b-multimodal", "sglang", "h200", v) for v in ("0.4.4", "0.5.9"))
    assert float(sglang.fraction(old)) == pytest.approx(0.88 * 0.95)
    tower = 1 - 0.1 * (27 * 1152**2 / (24 * 1024**2) - 1)
    assert float(sglang.fraction(new)) == pytest.approx(0.906 * 0.95 * tower, abs=0.001)


@pytest.mark.parametrize(
    ("model", "version", "apart"),
    [
        ("gemma-3-4b", "0.4.9", False), ("gemma-3-4b", "0.5.3", True), ("gemma-3-4b", "0.5.9", False),
        ("gpt-oss-20b", "0.5.3", True), ("gpt-oss-20b", "0.5.9", True), ("qwen3-8b", "0.5.9", False),
    ],
)  # fmt: skip
def test_sglangs_windows(model: str, version: str, apart: bool) -> None:
    """Window layers keep four fifths of the tokens where they have a pool of their own."""
    found = asked(model, "sglang", "h200", version, pool_bytes="10GB")
    rank = server_of("sglang").plan(found)
    assert rank.pool is not None
    assert (rank.pool.block_bytes < rank.token_bytes) is apart


@pytest.mark.parametrize(
    ("version", "sizes", "share"),
    [
        ("0.6", (2048, 16384), "0.85"), ("0.10", (2048, 16384), "0.9"), ("0.11", (256, 8192), "0.9"),
        ("1.0", (2048, 8192), "0.9"),
    ],
)  # fmt: skip
def test_tensorrt_llm_by_version(version: str, sizes: tuple[int, int], share: str) -> None:
    """docs/source/release-notes.md."""
    found = asked("llama-2-7b", "tensorrt-llm", "a100-80gb", version)
    server = server_of("tensorrt-llm")
    server.plan(found)
    assert server.sizes(found) == sizes
    assert f"--kv-fraction not given: {share} of what is free" in found.said


@pytest.mark.parametrize(
    ("gpu", "version", "tiles"),
    [
        ("h100-sxm", "0.11.0", (128, 256, True)), ("h100-sxm", "0.14.1", (64, 256, False)),
        ("h100-sxm", "0.19.0", (128, 256, True)), ("a100-80gb", "0.14.1", (128, 256, True)),
        ("rtx-5090", "0.14.1", (128, 256, True)), ("b200", "0.14.1", (256, 256, True)),
    ],
)  # fmt: skip
def test_vllm_pads_mxfp4_by_card_and_version(gpu: str, version: str, tiles: tuple[int, int, bool]) -> None:
    """quantization/mxfp4.py of 0.13.0; which wheels hold triton_kernels."""
    assert mxfp4_tiles(asked("gpt-oss-20b", "vllm", gpu, version)) == tiles
