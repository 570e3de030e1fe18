"""Published speeds: no ideal is beaten, the estimates lie inside their bars and the ranges hold what they promise."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from typing import Any

import pytest

from estimator.commands.infer.report import infer
from estimator.engines.pace import ALL_REDUCES, FP4, PACE
from estimator.engines.stored import stored
from estimator.errors import InputError
from estimator.models import load_model
from estimator.presets import load_gpu
from tests.engines.cases import records, served

BATCHES = (64, 1024)  # of a published maximum
LLAMA = {"engine": "vllm", "gpu": "h100-sxm"}


def answers(r: dict[str, Any]) -> list[dict[str, Any]]:
    return [served(r, b) for b in ([r["batch"]] if r.get("batch") else BATCHES)]


def key_of(r: dict[str, Any], key: str) -> str:
    if key == "ttft":
        return "ttft_seconds"
    return "itl_seconds" if key == "decode_step_seconds" and r.get("loaded") else key


def test_published_speeds() -> None:
    errors, middle, ends, every = [], 0, 0, 0
    for r in records("speeds"):
        found = answers(r)
        for key, want in r["want"].items():
            name = key_of(r, key)
            faster = key == "tokens_per_second"
            got = (max if faster else min)(found, key=lambda x: x[name])
            ideal = [x[f"{key}.ideal" if key != "ttft" else "ttft_seconds.ideal"] for x in found]
            assert max(ideal) >= want if faster else min(ideal) <= want, r["id"]
            errors.append(abs(got[name] / want - 1))
            middle += got[f"{name}.p25"] <= want <= got[f"{name}.p75"]
            ends += got[f"{name}.low"] <= want <= got[f"{name}.high"]
            every += 1
    assert statistics.median(errors) <= 0.12
    assert sorted(errors)[-(-9 * every // 10) - 1] <= 0.35
    assert middle >= 0.5 * every
    assert ends >= 0.9 * every


@pytest.mark.parametrize(
    ("scheme", "gpu", "wanted"),
    [
        ("awq", "h100-sxm", "bf16"), ("fp8", "h100-sxm", "fp8"), ("fp8", "a100-80gb", "bf16"),
        ("w8a8", "a100-80gb", "int8"), ("nvfp4", "h100-sxm", "bf16"), ("nvfp4", "b200", "fp4"),
        ("mxfp4", "h100-sxm", "bf16"), ("mxfp4", "b200", "fp8"), ("none", "b200", "bf16"),
    ],
)  # fmt: skip
def test_products_run_in_the_type_of_scheme_and_card(scheme: str, gpu: str, wanted: str) -> None:
    weights = stored(load_model("mixtral-8x7b"), scheme, "bf16")
    assert weights.compute_type(load_gpu(gpu), "bf16") == wanted


def test_arrivals_wait_longer_near_the_limit() -> None:
    more = LLAMA | {"seq_len": 1024, "new_tokens": 128}
    calm, busy = (infer("llama-3.1-8b", rate=x, **more).results() for x in (2.0, 20.0))
    assert busy["rate.ttft_seconds.p99"] > calm["rate.ttft_seconds.p99"]
    assert busy["rate.sequences"] > calm["rate.sequences"]
    full = infer("llama-3.1-8b", rate=10000.0, **more).results()
    assert full["rate.utilisation"] > 100


def test_a_prefix_hit_saves_its_share_of_the_prompt() -> None:
    more = LLAMA | {"seq_len": 8192, "new_tokens": 64}
    whole, half = (infer("llama-3.1-8b", prefix_hit=x, **more).results() for x in (0.0, 0.5))
    assert half["ttft_seconds"] < 0.6 * whole["ttft_seconds"]


@pytest.mark.parametrize("options", [{"rate": -1.0}, {"prefix_hit": 1.0}, {"gpu": "80GB"}])
def test_wrong_loads_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        infer("llama-3.1-8b", **LLAMA | options)


def test_sequences_beyond_the_pool_wait() -> None:
    report = infer("llama-3.1-8b", 4096, 8192, 1024, **LLAMA)
    assert any("the rest waits" in x for x in report.assumptions)


@pytest.mark.parametrize("batch", [1, 8, 64, 128, 256, 512, 1024, 4096])
@pytest.mark.parametrize("prompt", [128, 512, 2048])
def test_a_full_load_is_as_littles_law_has_it(batch: int, prompt: int) -> None:
    """Sequences are requests a second times the seconds of one, whether they run or wait for a place.

    Short prompts compute while a step waits for its weights, which the latencies count and the rate does not: where as
    many join as there are steps, a quarter of the sequences is missing.
    """
    got = infer("llama-3.1-8b", batch_size=batch, seq_len=prompt, new_tokens=128, **LLAMA).results()
    a_request = got["loaded_ttft_seconds"] + 127 * got["itl_seconds"]
    assert 0.74 <= got["tokens_per_second"] / 128 * a_request / batch <= 1.1
    assert got["loaded_ttft_seconds"] >= got["ttft_seconds"]
    if batch > 1:
        assert got["loaded_ttft_seconds"] > got["decode_step_seconds"]


def test_the_most_requests_a_second_are_about_those_of_a_full_load() -> None:
    more = {"seq_len": 128, "new_tokens": 128, **LLAMA}
    full = infer("llama-3.1-8b", batch_size=256, **more).results()["tokens_per_second"] / 128
    most = infer("llama-3.1-8b", batch_size=256, max_num_seqs=256, rate=1.0, **more).results()["rate.most"]
    assert full == pytest.approx(most, rel=0.2)


def test_what_is_fitted_is_what_is_answered() -> None:
    """benchmarks/fit_engines.py estimates the loaded records of vLLM and SGLang as ``infer`` does, step by step."""
    path = Path(__file__).parents[2] / "benchmarks" / "fit_engines.py"
    spec = importlib.util.spec_from_file_location("fit_engines", path)
    assert spec is not None
    assert spec.loader is not None
    fit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fit)
    found = [r for r in records("speeds") if r["engine"] in ("vllm", "sglang") and r.get("loaded") and r.get("batch")]
    assert len(found) >= 4
    for r in found:
        pace = PACE[r["engine"]]
        own = {"prompt": pace.prompt, "step": pace.step, "sequence": pace.sequence, "server": pace.server}
        at = {"links": ALL_REDUCES, "fp4": FP4, **{f"{r['engine']}.{k}": v for k, v in own.items()}}
        got = fit.estimate(fit.sample(r, r["batch"]), r["engine"], "decode_step_seconds", True, at)
        assert got == pytest.approx(served(r, r["batch"])["itl_seconds"], rel=1e-12)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_what_waits_holds_no_cache(engine: str) -> None:
    """16 sequences run at once of 64: the verdict and the speed are those of 16, and the rest waits for a place."""
    more = {"seq_len": 2048, "new_tokens": 256, "engine": engine, "gpu": "rtx-4090", "max_num_seqs": 16}
    few, many = (infer("llama-3.1-8b", batch_size=n, **more) for n in (16, 64))
    same = ("need_bytes", "itl_seconds", "tokens_per_second")
    assert [many.results()[k] for k in same] == [few.results()[k] for k in same]
    assert many.verdict.startswith("Fits: 16 at once of 64 requests of 2,304 tokens need ")
    ends = few.results()["tokens_per_second"] / 256  # requests a second
    waits = many.results()["loaded_ttft_seconds"] - few.results()["loaded_ttft_seconds"]
    assert waits == pytest.approx(48 / ends, rel=1e-9)


def test_vllm_does_not_start_with_more_sequences_than_tokens_of_a_step() -> None:
    with pytest.raises(InputError, match="--max-num-batched-tokens 512 is less than --max-num-seqs 2,048"):
        infer("llama-3.1-8b", max_num_seqs=2048, max_num_batched_tokens=512, **LLAMA)


def test_all_reduces_of_an_engines_own_kernel() -> None:
    """vLLM csrc/custom_all_reduce.cuh: one stage below 512 KiB of four ranks and 256 KiB of eight, two above."""
    from dataclasses import replace

    from estimator.engines.pace import sums_directly
    from estimator.models import load_model
    from estimator.roofline import machine
    from estimator.serving.step import Serving, decode
    from estimator.work.times import LINKS

    arch, card = load_model("llama-3.1-70b").architecture, machine("h100-sxm", "bf16")
    own = Serving(arch, card, {}, 2.0, 0, 16, 4, "fused", direct=True)
    link, fixed = card.link or 1.0, card.fixed
    for rows, bytes_moved, barriers in ((16, 3.0, 2), (64, 1.5, 3)):
        n = rows * 8192 * 2
        one = decode(own, rows, 512).of(LINKS) / 160
        assert one == pytest.approx(bytes_moved * n / link + barriers * fixed)
        assert one < decode(replace(own, direct=False), rows, 512).of(LINKS) / 160
    assert sums_directly("vllm", (0, 19), "NVLink 4", 8)
    assert not sums_directly("vllm", (0, 19), "NVLink bridge", 4)
    assert not sums_directly("tensorrt-llm", (0, 10), "NVLink 4", 8)
    assert not sums_directly("tgi", (3, 3), "NVLink 4", 8)
