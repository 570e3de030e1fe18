"""The default answers about serving: a screen of 80 by 25, the verdict first; ``--detail`` has every row."""

from __future__ import annotations

from itertools import product

import pytest

LINES = 25
ENGINES = {
    "vllm": "--gpu {gpu}", "sglang": "--gpu {gpu}", "tensorrt-llm": "--gpu {gpu}",
    "llama.cpp": "--gpu {gpu} --quantization q4_k_m", "transformers": "--gpu {gpu}",
}  # fmt: skip
MODELS = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "gpt-oss-120b")


@pytest.mark.parametrize(
    ("engine", "command", "model"), [*product(ENGINES, ("memory --mode inference", "kvcache", "infer"), MODELS)]
)
@pytest.mark.parametrize("gpu", ["h100-sxm", "rtx-4090"])
def test_a_screen(llmcalc, monkeypatch, engine, command, model, gpu):
    monkeypatch.setenv("COLUMNS", "80")
    name, *rest = command.split()
    line = " ".join([name, "--model", model, *rest, "--engine", engine, ENGINES[engine].format(gpu=gpu)])
    ran = llmcalc(line)
    assert ran.code == 0, ran.err
    shown = ran.out.splitlines()
    assert len(shown) <= LINES
    verdicts = ("Fits: ", "Does not fit: ", "Just fits, perhaps: ")
    assert shown[1].startswith(verdicts)  # behind a title of one line
    assert any(x.startswith("  more: ") and "--detail" in x for x in shown)
    whole = llmcalc(f"{line} --detail").out.splitlines()
    assert len(whole) > len(shown)
    assert shown[1] in whole[1:3]
    assert whole[0].startswith(shown[0].removesuffix(" ..."))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("llama-3-70b --gpu h100-sxm", "With --quantization awq: "),
        ("llama-3-70b --gpu h100-sxm --quantization awq --max-model-len 8k --batch-size 20", "With --kv-dtype fp8"),
        ("llama-3-70b --gpu rtx-4090", "With --tensor-parallel 8: "),
        ("llama-3.1-8b --gpu rtx-4090 --quantization fp8 --kv-dtype fp8 --batch-size 240 --seq-len 1k", "With --batch"),
        ("deepseek-v3 --gpu h100-sxm", "No single change makes it fit."),
    ],
)
def test_what_would_make_it_fit(llmcalc, line, says):
    report = llmcalc(f"memory --mode inference --engine vllm --model {line} --format json").json
    assert says in report["verdict"]


def test_the_change_that_is_named_fits(llmcalc):
    line = "kvcache llama-3.1-8b --engine vllm --gpu rtx-4090 --quantization fp8 --kv-dtype fp8 --seq-len 8k"
    words = llmcalc(f"{line} --batch-size 30 --format json").json["verdict"].split()
    held = int(words[words.index("--batch-size") + 1].rstrip(":"))
    for n, fits in ((held, "yes"), (held + 1, "no")):
        assert llmcalc(f"{line} --batch-size {n} --format json").results["fits"] == fits


def test_a_request_of_infer_is_the_one_that_it_times(llmcalc):
    got = llmcalc("infer llama-3.1-8b --engine vllm --gpu rtx-4090 --format json").json
    assert "1 request of 2,304 tokens" in got["verdict"]
    assert got["results"]["fits"] == "yes"
