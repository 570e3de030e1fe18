"""Published speeds: no ideal is beaten, the estimates lie inside their bars and the ranges hold what they promise."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from estimator.commands.infer.report import infer
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
