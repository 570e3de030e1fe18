"""Names of checkpoints that have a preset's shapes, and what a quantised one's name says to type."""

from __future__ import annotations

import pytest

from estimator.errors import InputError
from estimator.models import load_model


@pytest.mark.parametrize(
    ("name", "preset", "said"),
    [
        ("google/gemma-3-27b-it", "gemma-3-27b-text", "its text model without the tower"),
        ("gemma-3-27b-it", "gemma-3-27b-text", "its text model without the tower"),
        ("google/gemma-3-12b-it", "gemma-3-12b-multimodal", "its longest context may be another"),
        ("google/gemma-2-9b-it", "gemma-2-9b", "(--model hf:google/gemma-2-9b-it reads its own)"),
        ("moonshotai/Kimi-K2-Instruct", "kimi-k2", "stored as moonshotai/Kimi-K2-Thinking is (--quantization says"),
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3-4b", "its longest context may be another"),
        ("Qwen/Qwen3-4B-Thinking-2507", "qwen3-4b", "its longest context may be another"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-v3", "taken as the preset 'deepseek-v3'"),
        ("Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b", "taken as the preset 'llama-3.1-8b'"),
    ],
)
def test_what_was_trained_has_the_shapes_of_its_base(name, preset, said):
    model = load_model(name)
    assert model.name == preset
    assert said in "; ".join(model.notes)
    assert model.architecture.weights() == load_model(preset).architecture.weights()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("Qwen/Qwen2.5-72B-Instruct-AWQ", "--model qwen2.5-72b --quantization awq"),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", "--model qwen2.5-72b --quantization gptq"),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8", "--model qwen2.5-72b --quantization gptq-8bit"),
        ("neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8", "--model llama-3.1-8b --quantization fp8"),
        ("unsloth/Llama-3.2-3B-Instruct-unsloth-bnb-4bit", "--model llama-3.2-3b --quantization nf4-dq"),
        ("unsloth/llama-3-8b-bnb-4bit", "--model llama-3-8b --quantization nf4-dq"),
        ("nvidia/Llama-3.1-8B-Instruct-FP4", "--model llama-3.1-8b --quantization nvfp4"),
    ],
)
def test_a_quantised_variant_says_its_option(llmcalc, name, option):
    with pytest.raises(InputError, match="Its base may be the preset") as caught:
        load_model(name)
    assert str(caught.value).endswith(option)
    assert llmcalc(f"memory {option}").code == 0


@pytest.mark.parametrize(
    "name",
    ["c4ai-command-r-08-2024", "mistralai/Mistral-7B-Instruct-v0.2", "Qwen/Qwen2.5-7B-Instruct-1M", "x/gemma-2-9b-it"],
)
def test_another_shape_or_publisher_is_not_taken(name):
    with pytest.raises(InputError, match="unknown model"):
        load_model(name)
