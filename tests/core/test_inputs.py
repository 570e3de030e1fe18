"""What was asked, as numbers: JSON's inputs and sweep's columns have ints where sizes were typed as 8k or 1B."""

from __future__ import annotations

import csv
import io

import pytest

from estimator import api
from estimator.errors import InputError
from estimator.sizes import as_number

ASKED = {
    "train llama-3-8b --tokens 1B --seq-len 2k --batch-size 2 --accumulation 4": {
        "tokens": 10**9, "seq_len": 2048, "batch_size": 2, "accumulation": 4, "tensor_parallel": 1, "stage": 0,
        "epochs": 1.0, "pue": 1.1,
    },
    "train gpt2 --examples 10k --mean-tokens 500 --answer-len 256 --recipe dpo --seq-len 1k": {
        "examples": 10_000, "mean_tokens": 500, "answer_len": 256,
    },
    "memory llama-3-8b --seq-len 8k --new-tokens 1k": {"seq_len": 8192, "new_tokens": 1024},
    "memory llama-3-8b --engine llama.cpp --ctx-size 8k": {"ctx_size": 8192},
    "zero --params 7B --gpus 16 --stage 3": {"params": 7 * 10**9, "gpus": 16, "stage": 3},
    "decode beam --width 4 --vocab 32k --length 20": {"width": 4, "vocab": 32_000, "length": 20},
    "compress quantize --bits 4 --block 64": {"bits": 4, "block": 64},
    "plan tune gpt2 --method lora --examples 50k --seq-len 1k --gpu h100-sxm --gpus 1": {
        "examples": 50_000, "seq_len": 1024, "gpus": 1,
    },
    "plan serve gpt2 --gpu h100-sxm --gpus 1 --context 1k --new-tokens 128": {
        "context": 1024, "new_tokens": 128, "concurrency": 16, "gpus": 1,
    },
    "plan train gpt2 --gpus 8 --tokens 1B --seq-len 1k --gpu h100-sxm --top 1": {"tokens": 10**9, "gpus": 8},
}  # fmt: skip


@pytest.mark.parametrize(("line", "wanted"), ASKED.items())
def test_inputs_are_numbers(llmcalc, line, wanted):
    found = llmcalc(f"{line} --format json").json["inputs"]
    assert {k: found[k] for k in wanted} == wanted
    assert all(type(found[k]) is type(v) for k, v in wanted.items())


@pytest.mark.parametrize(("line", "column", "wanted"), [
    ("memory llama-3-8b --mode inference --engine llama.cpp --ctx-size 8k,16k --keys weights_bytes", "ctx_size",
     [8192, 16384]),
    ("memory llama-3-8b --engine vllm --gpu h100-sxm --max-model-len 8k,16k --keys pool_bytes", "max_model_len",
     [8192, 16384]),
    ("train gpt2 --tokens 1B,2B --keys hours", "tokens", [10**9, 2 * 10**9]),
    ("train gpt2 --examples 1k,2k --keys hours", "examples", [1000, 2000]),
    ("memory llama-3-8b --mode inference --seq-len 8k,16k --keys weights_bytes", "seq_len", [8192, 16384]),
])  # fmt: skip
def test_swept_sizes_are_numbers(llmcalc, line, column, wanted):
    found = llmcalc(f"sweep {line} --format json").json["rows"]
    assert [row[column] for row in found] == wanted
    rows = list(csv.DictReader(io.StringIO(llmcalc(f"sweep {line}").out)))
    assert [row[column] for row in rows] == [str(n) for n in wanted]


def test_ranges_of_examples_count_in_thousands(llmcalc):
    """--examples 1k is 1,000, and was 1,024 in a range."""
    rows = llmcalc("sweep train gpt2 --examples 1k:2k:1k --keys steps --format json").json["rows"]
    assert [(row["examples"], row["steps"]) for row in rows] == [(1000, 1000), (2000, 2000)]


def test_what_is_no_size_stays():
    assert [as_number("gpu_layers", x) for x in ("all", "16", None, "1,2", "n", 3)] == ["all", 16, None, "1,2", "n", 3]
    found = api.sweep("memory", "llama-3-8b", engine="llama.cpp", gpu_layers=["all", "16"], keys=["weights_bytes"])
    assert list(found.columns["gpu_layers"]) == ["all", 16]


@pytest.mark.parametrize("kind", ["tune", "train", "serve"])
def test_a_plans_best_row_is_in_its_results(kind):
    more = {
        "tune": {"examples": "1k", "gpus": "1", "seq_len": "1k"},
        "train": {"tokens": "1B", "gpus": "8", "seq_len": "1k"},
        "serve": {"gpus": "1", "context": "1k"},
    }[kind]
    found = api.plan(kind, "gpt2", gpu="h100-sxm", **more)
    first, results = found.rows[0], found.results()
    assert {"command", "layout", "fits", "need_bytes", "hours", "usd", "tokens_per_second", "gpu", "gpus"} <= set(first)
    numbers = {k: v for k, v in first.items() if not isinstance(v, str)}
    assert {k.removeprefix("best."): v for k, v in results.items() if k.startswith("best.")} == numbers
    assert first["command"].startswith("llmcalc ")


def test_a_plan_without_a_row_has_no_best():
    found = api.plan("tune", "llama-3.1-70b", gpu="rtx-4090", gpus="1", method="full", examples="1k")
    assert (found.rows, found.value("fits")) == ((), "no")
    assert not any(k.startswith("best.") for k in found.results())


def test_another_plan_is_refused():
    with pytest.raises(InputError, match="unknown plan 'rent'"):
        api.plan("rent")
