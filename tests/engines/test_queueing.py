"""Requests that arrive at a rate: measured runs of vLLM, a simulation of the same rules, and what must hold."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean, median

import pytest

from estimator.engines.queueing import Arriving
from tests.engines.make_records import found

RUNS = json.loads((Path(__file__).parent / "arrivals.json").read_text())["runs"]


def test_runs_that_others_measured(llmcalc):
    """They send 45 to 50 prompts over and over, so that vLLM finds all whole blocks of each in its cache."""
    errors: dict[str, list[float]] = {"sequences": [], "request_seconds": [], "ttft_seconds": []}
    for r in RUNS:
        got = llmcalc(
            f"infer {r['model']} --engine vllm --engine-version 0.15 --gpu {r['gpu']} --tensor-parallel {r['tensor']} "
            f"--rate {r['rate']} --seq-len {r['prompt']} --new-tokens {r['new']} --prefix-hit {found(r['prompt'])} "
            "--format json"
        ).results
        for key, every in errors.items():
            every.append(abs(got[f"rate.{key}"] / r[key] - 1))
    for key, half, most in (("sequences", 0.05, 0.1), ("request_seconds", 0.05, 0.1), ("ttft_seconds", 0.1, 0.2)):
        every = sorted(errors[key])
        assert median(every) < half, key
        assert every[int(0.9 * len(every)) - 1] < most, key


@pytest.mark.parametrize("busy", [0.05, 0.3, 0.6, 0.8])
def test_a_simulation_of_the_same_rules(busy):
    """Steps one after the other; a prompt joins the step that begins after it came."""
    a = Arriving(busy / 0.03, 0.02, 0.03)
    random.seed(5)
    now, waiting, firsts, gaps = 0.0, [], [], []
    coming = random.expovariate(a.rate)
    for _ in range(120_000):
        took = a.step + len(waiting) * a.prompt
        end = now + took
        firsts += [end - came for came in waiting]
        gaps.append(took)
        waiting = []
        while coming < end:
            waiting.append(coming)
            coming += random.expovariate(a.rate)
        now = end
    assert mean(gaps) == pytest.approx(a.between, rel=0.02)
    assert mean(firsts) == pytest.approx(a.first, rel=0.05)
    firsts.sort()
    for share, got in zip((0.5, 0.9, 0.99), a.first_within(0.5, 0.9, 0.99), strict=True):
        assert firsts[int(share * len(firsts))] == pytest.approx(got, rel=0.15)


def test_alone_nothing_waits_but_for_the_running_step():
    a = Arriving(0.0, 0.02, 0.03, 0.005)
    assert a.between == a.step
    assert a.first == pytest.approx(0.005 + 0.01 + 0.02 + 0.03)
    assert a.first_within(0.999)[0] < 0.005 + 0.02 + 0.02 + 0.03
    assert a.request(11) == pytest.approx(a.first + 10 * 0.02)


def test_more_requests_wait_longer_until_it_is_too_many(llmcalc):
    line = "infer llama-3-8b --engine vllm --gpu h100-sxm --seq-len 2k --new-tokens 256 --format json --rate"
    most = llmcalc(f"{line} 1").results["rate.most"]
    before = 0.0
    for share in (0.1, 0.5, 0.9, 0.99):
        r = llmcalc(f"{line} {share * most}").results
        assert r["rate.ttft_seconds"] > before
        assert r["rate.ttft_seconds.p50"] <= r["rate.ttft_seconds.p90"] <= r["rate.ttft_seconds.p99"]
        assert r["rate.itl_seconds.p50"] <= r["rate.itl_seconds.p99"]
        assert r["rate.request_seconds"] < r["rate.request_seconds.p99"]
        assert r["rate.tokens_per_second"] == pytest.approx(share * most * 256)
        before = r["rate.ttft_seconds"]
    assert "rate.sequences" not in llmcalc(f"{line} {1.01 * most}").results
    assert llmcalc(f"{line} 1 --data-parallel 2").results["rate.most"] == pytest.approx(2 * most)


def test_a_prefix_that_is_found_is_still_read(llmcalc):
    line = "infer llama-3-8b --engine vllm --gpu h100-sxm -b 32 -s 4k --new-tokens 256 --format json"
    none, half = (llmcalc(f"{line} {more}").results for more in ("", "--prefix-hit 0.5"))
    assert half["decode_step_seconds"] == none["decode_step_seconds"]  # the cache holds the whole prompt
    assert half["ttft_seconds"] < 0.6 * none["ttft_seconds"]
    assert half["itl_seconds"] < none["itl_seconds"]
    assert half["usd_per_million_input_tokens"] < 0.6 * none["usd_per_million_input_tokens"]
    assert half["max_batch"] == none["max_batch"]
