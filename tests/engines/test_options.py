"""Options of serving engines: what is refused, what is assumed, what agrees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from estimator.commands.infer.report import infer
from estimator.commands.kvcache.report import kvcache
from estimator.commands.memory.report import memory
from estimator.engines.layers import stages
from estimator.engines.weights import block
from estimator.errors import InputError

H100 = {"engine": "vllm", "gpu": "h100-sxm"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "vllm", "mem_fraction_static": "0.8"}, "--mem-fraction-static is no option of --engine vllm"),
        ({"engine": "sglang", "ctx_size": "4096"}, "--ctx-size is no option of --engine sglang"),
        (H100 | {"gpu_memory_utilization": "1.5"}, "--gpu-memory-utilization must be above 0"),
        (H100 | {"engine_version": "new"}, "expected numbers with dots"),
        (H100 | {"tensor_parallel": "3"}, "--tensor-parallel 3: 32 attention heads"),
        (H100 | {"pipeline_parallel": "64"}, "--pipeline-parallel must be between 1 and 32"),
        (H100 | {"dtype": "q4_k"}, "an engine computes in bf16, fp16 or fp32"),
        (H100 | {"prefix_caching": "maybe"}, "--prefix-caching must be on or off"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        kvcache("llama-3.1-8b", **options)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({"engine": "vllm", "gpu": "v100-32gb", "quantization": "awq"}, "0.19.0 needs compute capability 7.5"),
        ({"engine": "vllm", "gpu": "v100-32gb", "quantization": "nf4"}, ""),
        ({"engine": "vllm", "gpu": "t4", "quantization": "fp8"}, ""),
        ({"engine": "vllm", "gpu": "t4", "quantization": "fp8", "engine_version": "0.11.0"}, "8.0 for weights in fp8"),
        ({"engine": "sglang", "gpu": "a100-80gb", "quantization": "nvfp4"}, "capability 10.0 for weights in nvfp4"),
        ({"engine": "tensorrt-llm", "gpu": "a100-80gb", "quantization": "fp8"}, "capability 8.9 for weights in fp8"),
        ({"engine": "tensorrt-llm", "gpu": "l4", "quantization": "fp8"}, ""),
    ],
)
def test_schemes_that_a_card_is_too_old_for(options: dict[str, Any], needs: str) -> None:
    """A checkpoint's own scheme too: GPT-OSS is MXFP4."""
    if not needs:
        assert memory("opt-1.3b", **options).results()["fits"] == "yes"
        return
    with pytest.raises(InputError, match=needs):
        memory("opt-1.3b", **options)
    with pytest.raises(InputError, match=r"8\.0 for weights in mxfp4, t4 has 7\.5"):
        memory("gpt-oss-20b", engine="vllm", gpu="t4")


def test_no_advice_that_a_card_is_too_old_for(llmcalc) -> None:
    """FP8 on a T4 came with vLLM 0.14."""
    words = "memory --model mistral-7b --engine vllm --gpu t4 --engine-version"
    assert "--quantization fp8" in llmcalc(f"{words} 0.19.0").out
    old = llmcalc(f"{words} 0.11.0").out
    assert "--quantization awq" in old
    assert "--quantization fp8" not in old


def test_an_encoder_keeps_no_cache_and_generates_nothing() -> None:
    got = kvcache("bert-base", engine="vllm", gpu="l4").results()
    assert got["bytes_per_token"] == 0
    assert "kv_blocks" not in got
    assert got["fits"] == "yes"
    assert got["need_bytes"] < got["have_bytes"]
    with pytest.raises(InputError, match="an encoder generates nothing"):
        infer("bert-base", engine="vllm", gpu="l4")
    with pytest.raises(InputError, match="has an encoder beside its decoder"):
        kvcache("t5-small", engine="vllm", gpu="l4")


def test_a_draft_model_speeds_decoding_up() -> None:
    more = H100 | {"gpu": "h200", "seq_len": 1024, "quantization": "fp8"}
    got = infer("llama-3.1-70b", draft_model="llama-3.2-1b", **more).results()
    assert got["speculative.speedup"] > 1
    assert got["speculative.itl_seconds"] < got["itl_seconds"]
    assert got["speculative.tokens_per_second"] > got["tokens_per_second"]
    step = got["decode_step_seconds"]
    without = got["speculative.itl_seconds"] - step / got["speculative.speedup"]
    assert without == pytest.approx(got["itl_seconds"] - step)  # the prompts of others
    with pytest.raises(InputError, match="vocabulary"):
        infer("llama-3.1-70b", draft_model="gpt2", **more)


def test_memory_kvcache_and_infer_agree() -> None:
    more = H100 | {"max_model_len": "8k"}
    answers = [
        memory("llama-3.1-8b", mode="inference", **more).results(),
        kvcache("llama-3.1-8b", **more).results(),
        infer("llama-3.1-8b", **more).results(),
    ]
    for key in ("weights_bytes", "activation_bytes", "other_bytes", "graphs_bytes", "pool_bytes", "kv_blocks"):
        assert len({a[key] for a in answers}) == 1, key


def test_fp8_as_dtype_and_as_quantization_agree() -> None:
    by_dtype = kvcache("llama-3.1-8b", dtype="fp8", **H100).results()
    assert by_dtype == kvcache("llama-3.1-8b", quantization="fp8", **H100).results()


def test_a_pool_that_is_too_small_is_said() -> None:
    report = kvcache("llama-3.1-8b", engine="vllm", gpu="rtx-3090", max_model_len="128k")
    got = report.results()
    assert got["fits"] == "no"
    assert report.verdict.startswith("Does not fit")
    assert got["max_length"] // 16 == got["kv_blocks"]


def test_windows_hold_more_in_steady_decode_than_the_log_says() -> None:
    got = kvcache("gemma-3-27b", engine="vllm", gpu="h100-sxm", max_model_len="32k").results()
    assert got["steady_concurrency"] > got["max_concurrency"]


def test_an_engine_keeps_falcons_eight_heads() -> None:
    got = kvcache("falcon-180b", engine="vllm", pool_bytes="10GiB").results()
    assert got["bytes_per_token"] == 80 * 2 * 8 * 64 * 2


@pytest.mark.parametrize(("name", "options", "said"), [
    ("llama-3-8b", {"expert_parallel": "8"}, "--expert-parallel: the model has no experts"),
    ("llama-3-8b", {"expert_parallel": True, "tensor_parallel": "2"}, "--expert-parallel: the model has no experts"),
    ("mixtral-8x7b", {"expert_parallel": "3", "tensor_parallel": "2"}, "--expert-parallel 3: .* data groups: 2"),
    ("mixtral-8x7b", {"expert_parallel": "8"}, "--expert-parallel 8: .* data groups: 1"),
])  # fmt: skip
def test_experts_that_are_not_dealt_so_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    """Each was taken as if it were not there, or as another number."""
    with pytest.raises(InputError, match=said):
        kvcache(name, **options, **H100)


def test_a_tensor_group_beyond_a_machine_says_what_is_not_timed() -> None:
    """16 GPUs of two machines were timed as one of 16, without a word."""
    for tensor, said in (("16", True), ("8", False)):
        notes = infer("llama-3.1-70b", tensor_parallel=tensor, **H100).assumptions
        assert any("more than the 8 GPUs that share a fast link" in n for n in notes) == said


def test_expert_parallelism_deals_whole_experts() -> None:
    cut = kvcache("mixtral-8x7b", tensor_parallel="2", **H100).results()
    dealt = kvcache("mixtral-8x7b", tensor_parallel="2", expert_parallel=True, **H100).results()
    wide = kvcache("mixtral-8x7b", tensor_parallel="2", data_parallel="2", expert_parallel=True, **H100).results()
    assert abs(dealt["weights_bytes"] / cut["weights_bytes"] - 1) < 1e-3
    assert wide["weights_bytes"] < 0.6 * dealt["weights_bytes"]


def test_stages_take_what_is_left_over_before_the_last() -> None:
    assert [len(s) for s in stages(30, 4)] == [7, 8, 8, 7]
    assert [len(s) for s in stages(32, 2)] == [16, 16]


def test_the_allocator_counts_whole_segments() -> None:
    mib = 1024 * 1024
    assert block(1) == 512
    assert block(31 * mib + mib // 2) == 32 * mib
    assert block(24 * mib + mib // 2) == 24 * mib + mib // 2
    assert block(9 * mib + 1) == 9 * mib + 512


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi", "tensorrt-llm", "llama.cpp", "transformers"])
def test_no_positions_is_no_limit(llmcalc, tmp_path, engine: str) -> None:
    """A config of 0 positions was a question of no tokens, which ended in a division by it."""
    path = tmp_path / "config.json"
    config = {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "vocab_size": 99,
              "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "max_position_embeddings": 0}  # fmt: skip
    path.write_text(json.dumps(config))
    ran = llmcalc(f"infer --model {path} --engine {engine} --gpu h100-sxm")
    assert (ran.code, ran.err) == (0, "note: no positions are stated (0): the context is not limited\n")
