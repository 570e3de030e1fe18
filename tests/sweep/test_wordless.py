"""An answer whose numbers are asked for alone has those that it has in words, to the last bit."""

from __future__ import annotations

import pytest

from estimator.questions import ask
from estimator.report import numbers_of
from estimator.sweep.run import QUESTIONS, question_of
from estimator.trace import wordless

ASKED = [
    ("memory", "llama-3-8b", {"mode": "training", "gpu": "rtx-4090"}),
    ("memory", "llama-3-8b", {"batch_size": 64, "gpu": "rtx-4090"}),
    ("memory", "mixtral-8x7b", {"mode": "training", "gpus": 8, "stage": 2, "recipe": "deepspeed", "gpu": "h100-sxm"}),
    ("memory", "llama-3-8b", {"engine": "vllm", "gpu": "rtx-4090"}),
    ("memory", "llama-3-8b", {"quantization": "q4_k_m", "gpu": "rtx-3060"}),
    ("kvcache", "llama-3-8b", {"gpu": "rtx-4090", "seq_len": "128k"}),
    ("kvcache", "deepseek-v3", {}),
    ("flops", "llama-3-8b", {"mode": "training", "gpu": "h100-sxm", "seconds": 1.0}),
    ("peft", "llama-3-8b", {"method": "lora", "rank": 8}),
    ("zero", "llama-3-8b", {"gpus": 64, "gpu": "h100-sxm"}),
    ("zero", "llama-3-8b", {"gpus": 8, "gpu": "rtx-4090", "recipe": "deepspeed", "batch_size": 4}),
    ("train", "llama-3-8b", {"gpu": "h100-sxm", "steps": 10, "batch_size": 8}),
    ("train", "llama-3-70b", {"gpu": "h100-sxm", "gpus": 64, "tensor_parallel": 8, "pipeline_parallel": 2, "steps": 1}),
    ("infer", "llama-3-8b", {"gpu": "rtx-4090", "batch_size": 64}),
    ("infer", "llama-3-70b", {"gpu": "h100-sxm", "gpus": 4, "draft_model": "llama-3-8b", "alpha": 0.7}),
    ("infer", "llama-3-8b", {"gpu": "rtx-4090", "engine": "vllm", "batch_size": 64, "seq_len": 8192}),
    ("infer", "llama-3-8b", {"gpu": "h100-sxm", "engine": "sglang", "rate": 3.0}),
    ("infer", "llama-3-8b", {"gpu": "rtx-4090", "quantization": "q4_k_m"}),
]


@pytest.mark.parametrize(("command", "model", "options"), ASKED)
def test_numbers_alone(command, model, options):
    question, answer = question_of(command)
    asked = ask(question, model, options)
    assert numbers_of(answer, asked) == answer(asked).results()
    assert not wordless()


def test_every_command_that_is_swept_is_held_to_it():
    assert {command for command, *_ in ASKED} == set(QUESTIONS)
