"""The default answer at 80 columns: verdict, amount and best change first, and all of it within 25 lines.

A comparison (``--method all``) has a row a method.
"""

from __future__ import annotations

import re
from random import Random

import pytest

from estimator import presets
from tests.properties.asked import MORE

MODELS, GPUS = presets.ids("models"), (*presets.ids("gpus"), "12GB")
TRAINING = ("", "--method lora", "--method qlora --checkpointing full", "--gpus 4 --stage 3", "--recipe torch-mixed",
            "--recipe deepspeed --gpus 2 --stage 2", "--accumulation 8 -b 4 -s 4096",
            "--recipe megatron --gpus 16 --tensor-parallel 2 --pipeline-parallel 2")  # fmt: skip
SERVING = ("", "-b 8 -s 8k", "--quantization nf4", "--engine vllm", "--engine sglang -s 16k", "--engine tensorrt-llm",
           "--engine llama.cpp --quantization q4_k_m", "--engine vllm --tensor-parallel 2 -b 64")  # fmt: skip
PEFT = ("", "--method dora --rank 64", "--method qlora", "--method lora --targets all-linear",
        "--method freeze --trainable-layers 2", "--method prompt_tuning")  # fmt: skip


def drawn(rng):
    """A command line."""
    command = rng.choice(("memory", "train", "infer", "kvcache", "memory --mode training", "peft"))
    model = rng.choice(MODELS)
    if command == "peft":
        return f"peft -m {model} {rng.choice(PEFT)}"
    words = rng.choice(TRAINING if command in ("train", "memory --mode training") else SERVING)
    return f"{command} -m {model} --gpu {rng.choice(GPUS)} {words}"


UNKNOWN = "whether it fits is not known"
SIZE = re.compile(r"\d [KMGT]?i?B\b")


CHANGE = re.compile(r"With (--.*?)(?:: \d| it needs| it fits)")


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(4))
def test_a_screen(llmcalc, monkeypatch, part):
    monkeypatch.setenv("COLUMNS", "80")
    rng, answered = Random(f"18 {part}"), 0
    for line in (drawn(rng) for _ in range(40 * MORE)):
        ran = llmcalc(line)
        if ran.code == 2:
            assert ran.err.count("\n") == 1
            continue
        answered += 1
        shown = ran.out.splitlines()
        assert len(shown) <= 25, (line, len(shown))
        assert max(map(len, shown)) <= 80, line
        if "--gpu" in line and UNKNOWN not in ran.out + ran.err:
            head, sentence = (" ".join(shown[1:n]) for n in (3, 6))
            assert any(w in head for w in ("Does not fit", "Just fits", "Fits")), (line, head)
            assert SIZE.search(head), (line, head)
            assert "Does not fit" not in head or "over by" in head, (line, head)
            change = CHANGE.search(sentence)
            if change:
                words = change[1].partition(" (")[0]  # one of more than a line does not end on the third
                assert words in (head if len(words) < 76 else sentence), (line, sentence)
            elif "Does not fit" in head and "What would change it" in ran.out:
                assert any(w in sentence for w in ("card", "No single change")), (line, sentence)
    assert answered
