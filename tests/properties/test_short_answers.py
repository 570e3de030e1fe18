"""The default answer at 80 columns: verdict, amount and best change first, and all of it within 25 lines.

A comparison (``--method all``) has a row a method.
"""

from __future__ import annotations

import itertools
import re
from random import Random

import pytest

from tests.properties.asked import MORE

TRAINED = ("llama-3-8b", "qwen3-0.6b", "mixtral-8x7b", "gemma-3-1b", "gpt2", "flan-t5-small", "deepseek-v2-lite")
GPUS = ("rtx-4090", "h100-sxm", "t4", "mi300x", "12GB")
TRAINING = ("", "--method lora", "--method qlora --checkpointing full", "--gpus 4 --stage 3", "--recipe torch-mixed",
            "--recipe deepspeed --gpus 2 --stage 2", "--accumulation 8 -b 4 -s 4096",
            "--recipe megatron --gpus 16 --tensor-parallel 2 --pipeline-parallel 2")  # fmt: skip
SERVING = ("", "-b 8 -s 8k", "--quantization nf4", "--engine vllm", "--engine sglang -s 16k", "--engine tensorrt-llm",
           "--engine llama.cpp --quantization q4_k_m", "--engine vllm --tensor-parallel 2 -b 64")  # fmt: skip
PEFT = ("", "--method dora --rank 64", "--method qlora", "--method lora --targets all-linear",
        "--method freeze --trainable-layers 2", "--method prompt_tuning")  # fmt: skip


def every():
    """Command lines."""
    for model, gpu in itertools.product(TRAINED, GPUS):
        for words in TRAINING:
            yield f"memory --mode training -m {model} --gpu {gpu} {words}"
            if gpu != "12GB":
                yield f"train -m {model} --gpu {gpu} {words}"
        for words in SERVING:
            yield f"memory -m {model} --gpu {gpu} {words}"
            yield f"kvcache -m {model} --gpu {gpu} {words}"
            if gpu != "12GB":
                yield f"infer -m {model} --gpu {gpu} {words}"
    for model, words in itertools.product(TRAINED, PEFT):
        yield f"peft -m {model} {words}"


UNKNOWN = "whether it fits is not known"
SIZE = re.compile(r"\d [KMGT]?i?B\b")


@pytest.mark.parametrize("part", range(4))
def test_a_screen(llmcalc, monkeypatch, part):
    monkeypatch.setenv("COLUMNS", "80")
    answered = 0
    for line in Random(18).sample(list(every()), 120 * MORE)[part::4]:
        ran = llmcalc(line)
        if ran.code == 2:
            assert ran.err.count("\n") == 1
            continue
        answered += 1
        shown = ran.out.splitlines()
        assert len(shown) <= 25, (line, len(shown))
        assert max(map(len, shown)) <= 80, line
        if "--gpu" in line and UNKNOWN not in ran.out:
            head = " ".join(shown[:3])
            assert any(w in head for w in ("Does not fit", "Just fits", "Fits")), (line, head)
            assert SIZE.search(head), (line, head)
            if "Does not fit" in head and "What would change it" in ran.out:
                first = " ".join(shown[:6])
                assert any(w in first for w in ("With --", "card", "No single change")), (line, first)
    assert answered
