"""The working of serving engines: what a run that derives answers is what it answers without, step by step."""

from __future__ import annotations

import pytest

from tests.exact.test_homework import PRINTED, _each_step_equals_the_next

ENGINES = ("vllm", "sglang", "tensorrt-llm", "tgi")
MODELS = (
    "llama-3-8b --gpu h100-sxm", "qwen3-30b-a3b --gpu h100-sxm", "gemma-3-27b --gpu h200 --kv-dtype fp8",
    "deepseek-v3 --gpu h200 --tensor-parallel 8", "llama-3-70b --gpu h100-sxm --tensor-parallel 4",
    "llama-3-8b --gpu rtx-4090 --quantization awq", "llama-3-8b --pool-bytes 20GB", "llama-3-8b",
    "llama-3-70b --gpu rtx-4090",
)  # fmt: skip
CASES = [(engine, model) for engine in ENGINES for model in MODELS] + [
    ("vllm", "llama-3-8b --gpu h100-sxm --engine-version 0.21"), ("vllm", "falcon-mamba-7b --gpu h100-sxm"),
    ("vllm", "llama-3-70b --gpu h100-sxm --gpus 8 --pipeline-parallel 2 --tensor-parallel 4"),
    ("tgi", "llama-3-8b --gpu h100-sxm --engine-version 2.2"),
    ("sglang", "qwen3.5-35b-a3b --gpu h100-sxm --tensor-parallel 2"),  # recurrent states take a part of its pool
]  # fmt: skip


@pytest.mark.parametrize(("engine", "model"), CASES)
@pytest.mark.parametrize("command", ["memory", "kvcache", "infer --batch-size 24 --new-tokens 200"])
def test_a_run_that_derives_answers_the_same(llmcalc, command, engine, model):
    line = f"{command} {model} --engine {engine} --format json"
    plain = llmcalc(line)
    derived = llmcalc(f"{line} --derive")
    assert plain.code == derived.code, derived.err
    if plain.code:
        return
    assert derived.results == plain.results
    assert derived.json["verdict"] == plain.json["verdict"] if "verdict" in plain.json else True
    found = {d["key"]: d for d in derived.json["derivations"]}
    if "gpu" in plain.json["inputs"] and plain.json["inputs"]["gpu"]:
        assert {"budget_bytes", "weights_bytes"} <= set(found)
        assert ("pool_bytes" in found) == (plain.results["pool_bytes"] > 0 and "--pool-bytes" not in model)
    for key, d in found.items():
        assert d["value"] == plain.results[key]
        if any(s["equals"] and s["rule"] != "numbers put in" for s in d.get("steps", ())):
            _each_step_equals_the_next(found, d, derived.json, PRINTED if "usd" in key else 18)


def test_the_pool_is_worked_from_what_the_driver_reports(llmcalc):
    out = llmcalc("memory llama-3-8b --engine vllm --gpu h100-sxm --derive").out
    assert "= floor(9*M/10)" in out
    assert "= [What the engine allows itself] - (W + A + O)" in out
    assert "= 4*L*h_kv*d_h" in out
    assert "qkv: 50331648, 32 of them = 32*50331648" in out
    assert "no formula is traced" not in out


def test_a_step_is_worked_from_the_parts_of_its_pass(llmcalc):
    ran = llmcalc("infer llama-3-8b --engine vllm --gpu h100-sxm --batch-size 16 --derive --format json")
    found = {d["key"]: d for d in ran.json["derivations"]}
    step = found["decode_step_seconds"]
    seconds = {s["name"]: s["value"] for s in ran.json["symbols"]}
    parts = [s["left"] for s in step["steps"] if s.get("left")]
    assert len(parts) == 4
    assert any("reading the cache" in s["rule"] for s in step["steps"])
    assert sum(seconds[p] for p in parts) == pytest.approx(step["value"], rel=1e-12)
    assert step["expression"] == " + ".join(parts)
    out = llmcalc("infer llama-3-8b --engine vllm --gpu h100-sxm --batch-size 16 --derive").out
    assert "[A decode step] + t_" in out


def test_a_fitted_multiple_is_named(llmcalc):
    out = llmcalc("infer llama-3-8b --engine tensorrt-llm --gpu h100-sxm --batch-size 16 --derive").out
    assert "1.217 times as long (fitted)" in out
    assert "s a sequence (fitted)" in out
