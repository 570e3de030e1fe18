"""``--largest`` in serving engines: exact, one more does not fit."""

from __future__ import annotations

import pytest

CASES = [
    ("llama-3.2-1b --quantization q4_k_m --gpu 2GB", "ctx-size", ""),
    ("llama-3.2-1b --quantization q4_k_m --gpu 2GB --parallel 2", "ctx-size", ""),
    ("llama-3.2-1b --quantization q8_0 --gpu 1700MB -c 8k", "gpu-layers", ""),
    ("llama-3.2-1b --quantization q4_k_m --gpu 2GB -s 2k", "batch-size", ""),
    ("llama-3.1-8b --engine vllm --gpu rtx-4090 --quantization fp8 -s 4k", "batch-size", ""),
    ("llama-3.1-8b --engine vllm --gpu rtx-4090 --quantization fp8", "seq-len", "--max-model-len {n}"),
    ("llama-3.1-8b --engine sglang --gpu l4 --quantization awq -s 4k", "batch-size", ""),
]


@pytest.mark.parametrize(("line", "name", "more"), CASES)
def test_one_more_does_not_fit(llmcalc, line, name, more):
    base = f"memory --mode inference --model {line} --format json"
    key = f"largest.{name.replace('-', '_')}"
    found = llmcalc(f"{base} --largest {name}").results
    most, sure = found[key], found[f"{key}.sure"]
    assert 0 < sure <= most

    def fits(n: int) -> str:
        return str(llmcalc(f"{base} --{name} {n} {more.format(n=n)}").results["fits"])

    assert fits(most) in ("yes", "tight")
    assert fits(most + 1) == "no"
    assert fits(sure) == "yes"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--engine vllm --gpu h200 --largest ctx-size", "--largest ctx-size: one of batch-size, seq-len"),
        ("--engine vllm --largest batch-size", "--largest needs --gpu"),
        ("--gpu h200 --largest gpu-layers", "--largest gpu-layers: one of batch-size, seq-len, rank"),
    ],
)
def test_refused(llmcalc, line, says):
    ran = llmcalc(f"memory --mode inference {line}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert says in ran.err
