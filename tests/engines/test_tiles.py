"""Tensor degrees that cut through the numbers which share a scale: vLLM and SGLang raise at the load, and so do we."""

from __future__ import annotations

import pytest

from estimator import api
from estimator.config import Config
from estimator.errors import InputError
from estimator.models import Model, load_model

BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]}
EXPERTS = {
    "model_type": "qwen3_moe", "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536,
    "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
    "num_experts_per_tok": 8, "vocab_size": 151936, "max_position_embeddings": 40960, "quantization_config": BLOCKS,
}  # fmt: skip


def fits(model, engine="vllm", **options):
    return api.memory(model, mode="inference", engine=engine, gpu="h100-sxm", **options).facts["fits"]


def blocks():
    return Model("qwen3-235b-a22b-fp8", "file", Config(EXPERTS))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_experts_in_blocks_of_128(engine):
    """1536 / 8 = 192: both engines' "output_size of gate's and up's weight = 192 is not divisible by ... 128"."""
    with pytest.raises(InputError, match=r"experts of 1,536 / 8 = 192 col.*--expert-parallel or --tensor-parallel 4"):
        fits(blocks(), engine, tensor_parallel=8)
    for options in ({"tensor_parallel": 4}, {"tensor_parallel": 8, "expert_parallel": 8}):
        assert fits(blocks(), engine, **options) in ("yes", "tight", "no")


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_deepseek_v3_at_32(engine):
    """sgl-project/sglang#3345; its shared experts are cut too, so that dealing the routed ones does not help (as vLLM
    #42384 has it of a later model)."""
    for options in ({}, {"expert_parallel": 32}):
        with pytest.raises(InputError, match=r"Use --tensor-parallel 16$"):
            fits("deepseek-v3", engine, tensor_parallel=32, **options)
    assert fits("deepseek-v3", engine, tensor_parallel=16) == "yes"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("scheme", ["awq", "gptq", "int4"])
def test_groups_of_128(scheme, engine):
    """vLLM #13640: "input_size_per_partition = 14784 is not divisible by min_thread_k = 128"."""
    for n, each in ((2, "14,784"), (4, "7,392"), (8, "3,696")):
        with pytest.raises(InputError, match=f"MLPs of 29,568 / {n} = {each} columns.*intermediate_size=29696"):
            fits("qwen2.5-72b", engine, quantization=scheme, tensor_parallel=n)
    padded = load_model("qwen2.5-72b", ("intermediate_size=29696",))
    assert fits(padded, engine, quantization=scheme, tensor_parallel=2) == "yes"


def test_what_shares_no_scale_across_a_cut_loads():
    for options in ({}, {"quantization": "fp8"}, {"quantization": "gptq-4bit-g32"}, {"quantization": "nvfp4"}):
        assert fits("qwen2.5-72b", gpu_memory="141GB", tensor_parallel=2, **options) == "yes"


def test_groups_of_packed_experts_are_halved_until_they_divide():
    """moe_wna16.py: 768 / 8 = 96 columns in groups of 32 of the 128."""
    assert fits("qwen3-30b-a3b", quantization="awq", tensor_parallel=8) == "yes"


def test_fused_heads_are_checked_in_sglang_and_older_vllm():
    """Two heads of 64 a rank, of whose key/value heads each rank has one: half a tile, which vLLM lets pass today."""
    config = EXPERTS | {"model_type": "llama", "head_dim": 64, "num_attention_heads": 16, "num_key_value_heads": 8,
                        "intermediate_size": 8192, "num_hidden_layers": 2}  # fmt: skip
    model = Model("small", "file", Config(config))
    assert fits(model, tensor_parallel=8) == "yes"
    for engine, version in (("sglang", None), ("vllm", "0.10.0")):
        with pytest.raises(InputError, match="key/value heads of 512 / 8 = 64 columns"):
            fits(model, engine, tensor_parallel=8, engine_version=version)


def test_advice_and_planner_propose_none(llmcalc):
    made = api.infer(blocks(), engine="vllm", gpu="a100-40gb")
    assert made.verdict.endswith("With --tensor-parallel 8 --expert-parallel: 30.72 GiB of 35.44 GiB.")
    line = "plan serve qwen3-235b-a22b --quantization fp8-block --gpu h100-sxm --gpus 8 --top 99 --format json"
    layouts = {row["layout"] for row in llmcalc(line).json["rows"]}
    assert {"fp8-block, tensor 8, experts over 8", "fp8-block, tensor 4, pipeline 2"} < layouts
    assert "fp8-block, tensor 8" not in layouts


def test_other_engines_are_not_asked():
    assert fits("qwen2.5-72b", "tgi", quantization="awq", tensor_parallel=2) == "yes"
