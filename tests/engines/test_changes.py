"""What would make an engine hold a request: every row is what its command prints, and what people would do is said."""

from __future__ import annotations

import pytest

LINES = {
    "memory llama-3-8b --engine vllm --gpu l4 --batch-size 5 --seq-len 8k": "--gpu-memory-utilization 0.95",
    "memory llama-3-8b --engine vllm --gpu h100-sxm --batch-size 55 --seq-len 8k": "--gpu-memory-utilization 0.95",
    "memory llama-3-8b --engine sglang --gpu h100-sxm --batch-size 60 --seq-len 8k": None,
    "memory llama-3.1-8b --engine vllm --gpu rtx-3060-12gb": "--quantization fp8 --max-model-len 10896",
    "memory llama-3.1-70b --engine vllm --gpu h100-sxm": "--quantization fp8 --max-model-len 4464",
    "infer qwen3-32b --engine vllm --gpu rtx-4090": "--quantization awq",
    "infer llama-3.1-70b --engine sglang --gpu h100-sxm": "--quantization awq",
    "kvcache qwen3-32b --engine sglang --gpu rtx-4090": "--quantization awq --max-model-len 5693",
    # a shorter longest request makes the video of the trial run shorter: a step more begins at 32,768 tokens
    "memory qwen2.5-vl-7b --engine vllm --gpu rtx-4090": "--max-model-len 32767",
    "memory qwen2.5-vl-7b --engine vllm --gpu rtx-3060": "--quantization awq --max-model-len 32767",
    "memory qwen2.5-vl-7b --engine vllm --gpu a100-40gb": "--limit-mm-per-prompt video=0",
    "memory llama-3.1-8b --engine vllm --gpu rtx-4090": None,
    "memory deepseek-v3 --engine vllm --gpu h200 --tensor-parallel 4": None,
}


@pytest.mark.parametrize(("line", "best"), LINES.items())
def test_every_row_is_what_its_command_prints(llmcalc, line, best):
    ran = llmcalc(f"{line} --format json")
    assert ran.results["fits"] == "no"
    table = next(t for t in ran.json["tables"] if t["title"] == "What would change it")
    rows = [r for r in table["rows"] if not str(r[0]).startswith("--gpu ")]
    for flags, needs, _, fits, _ in rows:
        words = line.split()
        for flag in [w for w in flags.split() if w in words]:
            del words[words.index(flag) : words.index(flag) + 2]
        found = llmcalc(f"{' '.join(words)} {flags} --format json").results
        assert (found["need_bytes"], found["fits"]) == (needs, fits), flags
    if best is not None:
        assert rows[0][0] == best
        assert f" With {best}: " in ran.json["verdict"]
