"""Weights without a config: what the header alone says, and what it cannot."""

from __future__ import annotations

import pytest

from tests.headers.make import safetensors

SHAPES = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (32, 64), "mlp.up_proj": (128, 64)}
TENSORS = {
    f"model.layers.{i}.{name}.weight": ("BF16", list(shape)) for i in range(2) for name, shape in SHAPES.items()
} | {f"model.layers.{i}.input_layernorm.weight": ("BF16", [64]) for i in range(2)}
HEAD = {"lm_head.weight": ("BF16", [100, 64]), "model.embed_tokens.weight": ("BF16", [100, 64])}
ELEMENTS = 2 * (64 * 64 + 32 * 64 + 128 * 64 + 64) + 2 * 100 * 64


@pytest.fixture(params=["file", "folder"])
def model(request, tmp_path):
    if request.param == "file":
        safetensors(tmp_path / "bare.safetensors", TENSORS | HEAD)
        return tmp_path / "bare.safetensors"
    safetensors(tmp_path / "model-00001-of-00002.safetensors", TENSORS)
    safetensors(tmp_path / "model-00002-of-00002.safetensors", HEAD)
    return tmp_path


def test_weights_adapters_and_zero(llmcalc, model):
    found = llmcalc(f"memory --model {model} --format json").results
    assert found["params.total"] == ELEMENTS
    assert found["weights_bytes"] == 2 * ELEMENTS
    assert found["params.embedding"] == 2 * 100 * 64
    own = 2 * 8 * (64 + 64 + 64 + 32)
    peft = llmcalc(f"peft --model {model} --method lora --targets q_proj,v_proj --format json").results
    assert peft["trainable_params"] == own
    everything = llmcalc(f"peft --model {model} --method lora --targets all-linear --format json").results
    assert everything["trainable_params"] == own + 2 * 8 * (64 + 128)  # not the head
    line = f"zero --model {model} --gpus 4 --stage 3 --format json"
    assert llmcalc(line).results["stage3.memory_bytes"] == 16 * ELEMENTS // 4
    adapted = llmcalc(f"{line} --method lora --targets q_proj,v_proj").results
    assert adapted["stage3.memory_bytes"] == 2 * ELEMENTS // 4 + 16 * own // 4


@pytest.mark.parametrize("line", [
    "kvcache", "flops", "infer --gpu h100-sxm", "train --gpu h100-sxm", "memory --mode training",
    "memory --engine vllm --gpu h100-sxm", "memory --engine llama.cpp",
])  # fmt: skip
def test_what_is_computed_needs_the_config(llmcalc, model, line):
    ran = llmcalc(f"{line} --model {model}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "put the model's config.json beside it" in ran.err


def test_packed_weights_need_the_config(llmcalc, tmp_path):
    safetensors(tmp_path / "packed.safetensors", {"model.layers.0.mlp.up_proj.weight": ("F8_E4M3", [8, 64])})
    ran = llmcalc(f"memory --model {tmp_path / 'packed.safetensors'}")
    assert ran.code == 2
    assert "packed weights need the model's config.json" in ran.err
