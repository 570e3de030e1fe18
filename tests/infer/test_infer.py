"""Times of prefill and decode against published tables and what must hold; measured ones: tests/accuracy."""

from __future__ import annotations

import math

import pytest

from estimator import presets
from estimator.commands.infer.report import infer
from estimator.errors import InputError
from estimator.formulas import inference as f
from estimator.models import load_model
from estimator.roofline import interpolate, machine


def rows_by_batch(report):
    table = next(x for x in report.body if getattr(x, "title", "") == "By batch")
    return {int(str(r[0]).replace(",", "")): (r[6].value, r[7]) for r in table.rows}


@pytest.mark.parametrize("options", [
    {}, {"seq_len": 1024}, {"batch_size": 24, "seq_len": 1024}, {"gpus": 2}, {"draft_model": "llama-3.2-1b"},
    {"draft_model": "llama-3.2-1b", "gpus": 2}, {"gpu_memory": "40GB", "batch_size": 64},
    {"kv_dtype": "fp8", "batch_size": 64}, {"engine": "fused"},
])  # fmt: skip
def test_a_row_of_the_batches_is_the_verdict(options):
    """16.83 GiB and 16.87 GiB stood for the same batch in one report."""
    made = infer("llama-3.1-8b", **{"gpu": "h100-sxm", **options})
    rows = rows_by_batch(made)
    assert rows[int(options.get("batch_size", 1))] == (made.results()["need_bytes"], made.facts["fits"])
    if "gpus" not in options and "draft_model" not in options:
        for b, (needed, _) in rows.items():
            other = infer("llama-3.1-8b", **{"gpu": "h100-sxm", **options, "batch_size": b}).results()
            assert other["need_bytes"] == needed


def test_a_draft_model_is_held_too():
    """Its weights and its cache; neither was counted, though both are with --engine vllm."""
    same = {"gpu": "h100-sxm", "seq_len": 2048, "new_tokens": 256}
    plain, drafted = (infer("llama-3.1-8b", **same, **more) for more in ({}, {"draft_model": "llama-3.2-1b"}))
    alone, both = plain.results(), drafted.results()
    assert both["draft_weights_bytes"] == infer("llama-3.2-1b", **same).results()["weights_bytes"] == 2_471_628_800
    assert both["draft_kv_cache_bytes"] == 2304 * 16 * 2 * 8 * 64 * 2
    assert both["need_bytes.low"] == alone["need_bytes.low"] + 2_471_628_800 + both["draft_kv_cache_bytes"]
    assert "Serving llama-3.1-8b with drafts of llama-3.2-1b: " in drafted.title
    two = infer("llama-3.1-8b", gpus=2, draft_model="llama-3.2-1b", **same).results()
    assert two["draft_weights_bytes"] == 2_471_628_800 // 2
    small = infer("llama-3.1-8b", gpu="rtx-4060-ti-16gb", draft_model="llama-3.2-1b")
    assert small.verdict.endswith(" Without --draft-model: 17.01 GiB.")


@pytest.mark.parametrize("name", presets.ids("models"))
def test_every_model(name):
    """Either one line, or low <= best <= high with the ideal below, and a sum that is the sum of its parts."""
    model = load_model(name)
    if model.architecture.kind == "encoder":
        with pytest.raises(InputError, match="an encoder generates nothing"):
            infer(model, 4, 512, 16)
        return
    got = infer(model, 4, 512, 16).results()
    for key in ("prefill_seconds", "decode_step_seconds"):
        assert 0 < got[f"{key}.ideal"] <= got[f"{key}.low"] <= got[key] <= got[f"{key}.high"]
    assert got["bound"] in ("compute", "memory", "cache", "launch")
    assert all(v is None or not isinstance(v, float) or math.isfinite(v) for v in got.values())


@pytest.mark.parametrize("name", presets.ids("gpus"))
def test_every_gpu(name):
    model = load_model("llama-3.2-1b")
    got = infer(model, gpu=name).results()
    assert got["prefill_seconds.ideal"] <= got["prefill_seconds.low"]
    assert got["decode_step_seconds.ideal"] <= got["decode_step_seconds.low"]


# jax-ml/scaling-book, inference: Llama-2-13B on 8 TPU v5e, 8192 tokens; weights 26 GB, cache 6.7 GB a sequence
@pytest.mark.parametrize(
    ("batch", "cache", "ms", "rate"),
    [(1, 6.7e9, 4.98, 200.61), (8, 6.7e9, None, 659.3), (64, 6.7e9, 69.33, None), (240, 6.7e9, 249.09, 963.53),
     (1, 1.34e9, None, 239.94), (32, 1.34e9, None, 3047.62)],
)  # fmt: skip
def test_scaling_book_table(batch, cache, ms, rate):
    step = f.decode_floor_seconds(26e9, batch * cache, 8, 820e9)
    if ms is not None:
        assert 1e3 * step == pytest.approx(ms, abs=0.02)
    if rate is not None:
        assert batch / step == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("batch", "ms"), [(1, 4.98), (8, 12.13), (64, 69.33)])
def test_scaling_book_through_the_model(batch, ms):
    """The same from Llama-2-13B's own inventory and the preset's 819 GB/s: the embedding table is not read whole."""
    got = infer(load_model("llama-2-13b"), batch, 8191, 1, gpu="tpu-v5e", gpus=8).results()
    assert 1e3 * got["decode_step_seconds.ideal"] == pytest.approx(ms, rel=0.02)


def test_published():
    assert f.critical_batch(197e12, 820e9, 16) == pytest.approx(240, abs=0.5)  # scaling-book, rooflines
    assert 1e3 * f.decode_floor_seconds(112e9, 0, 8, 810e9) == pytest.approx(17, abs=0.5)
    assert 1e3 * f.decode_floor_seconds(16e9, 0, 1, 820e9) == pytest.approx(19, abs=0.6)
    assert f.prefill_floor_seconds(70e9, 8192, 16, 197e12, 0.4) == pytest.approx(0.91, abs=0.005)
    assert f.least_accelerators(140e9, 16e9) == pytest.approx(8.75, abs=0.006)
    assert 1e3 * f.decode_floor_seconds(2 * 52e9, 0, 4, 1.5e12) == pytest.approx(17, abs=0.4)  # kipply 2022
    assert infer(load_model("llama-2-13b"), gpu="tpu-v5e", gpus=8).results()["critical_batch.ideal"] == pytest.approx(
        240, abs=1
    )


def test_critical_batch_divides_the_bounds():
    model = load_model("llama-2-7b")
    critical = infer(model, seq_len=16, new_tokens=2).results()["critical_batch"]
    small, large = (infer(model, round(critical * x), 16, 2, engine="fused").results()["bound"] for x in (0.4, 4))
    assert (small, large) == ("memory", "compute")


def test_interpolation():
    points = ((1.0, 10.0), (100.0, 1000.0))
    assert interpolate(points, 10) == pytest.approx(100)
    assert interpolate(points, 0.1) == 10
    assert interpolate(points, 1e6) == 1000


def test_measured_rates_are_the_presets():
    """Products of the measured sizes take the measured time, but for a kernel's fixed cost."""
    m = machine("h100-sxm")
    for n, tflops in ((4096, 798.9), (8192, 803.6), (16384, 751.6)):
        assert m.gemm(n, n, n) + m.fixed == pytest.approx(2 * n**3 / tflops / 1e12, rel=1e-6)
    for rows, gb_s in ((1, 2935.1), (8, 2926.4), (128, 2845.5)):
        assert m.arrive(2 * 8192 * 28672, rows) > m.gemm(rows, 8192, 28672)
        assert m.arrive(2 * 8192 * 28672, rows) == pytest.approx(2 * 8192 * 28672 / gb_s / 1e9, rel=1e-6)


def test_tensor_parallel():
    model = load_model("llama-3-70b")
    one, two, eight = (infer(model, 8, gpus=n).results() for n in (1, 2, 8))
    assert one["decode_step_seconds.ideal"] == pytest.approx(8 * eight["decode_step_seconds.ideal"])
    assert one["decode_step_seconds"] > two["decode_step_seconds"] > eight["decode_step_seconds"]
    assert eight["decode_step_seconds"] > one["decode_step_seconds"] / 8
    assert one["weights_bytes"] == 8 * eight["weights_bytes"]
    assert one["kv_cache_bytes"] == 8 * eight["kv_cache_bytes"]
    assert f.all_reduce_seconds(800, 8, 100.0, 6, 0.5) == 2 * 7 / 8 * 800 / 100 + 3
    assert f.direct_sum_seconds(800, 8, 100.0, 0.5) == 7 * 800 / 100 + 0.5
    assert f.experts_met(8, 2, 1) == 2  # a token meets those that it chooses
    assert f.experts_met(4, 1, 2) == 1.75  # the second meets another three times of four


def test_fewer_heads_than_gpus():
    """Qwen2.5-7B has 4 key/value heads: over 7 accelerators each holds one."""
    model = load_model("qwen2.5-7b")
    whole, split = (infer(model, 1, 4096, gpus=n).results()["kv_cache_bytes"] for n in (1, 7))
    assert split == whole // 4


def test_quantised_weights():
    model = load_model("llama-3-8b")
    plain, packed = (infer(model, quantization=q, engine="fused").results() for q in ("none", "awq"))
    assert packed["weights_bytes"] < 0.4 * plain["weights_bytes"]
    assert packed["decode_step_seconds"] < 0.6 * plain["decode_step_seconds"]
    assert packed["prefill_seconds"] == pytest.approx(plain["prefill_seconds"], rel=0.02)


def test_speculative():
    got = infer(load_model("llama-3-70b"), gpus=4, draft_model=load_model("llama-3-8b"), alpha=0.8, gamma=4).results()
    tokens = (1 - 0.8**5) / 0.2
    assert got["speculative.expected_tokens"] == pytest.approx(tokens)
    passed = 4 * got["speculative.draft_seconds"] + got["speculative.verify_seconds"]
    assert got["speculative.speedup"] == pytest.approx(tokens * got["decode_step_seconds"] / passed)
    assert got["speculative.verify_seconds"] >= got["decode_step_seconds"]


def test_money():
    got = infer(load_model("llama-3-8b"), 8, price=3.6).results()
    assert got["usd_per_million_tokens"] == pytest.approx(3.6 / 3600 * 1e6 / got["tokens_per_second"])
    assert got["tokens_per_second"] == pytest.approx(8 * 256 / got["request_seconds"])
    assert "usd_per_million_tokens" not in infer(load_model("gpt2"), gpu="tpu-v3").results()


def test_derivation_and_plot(llmcalc):
    ran = llmcalc("infer --model gpt2 --batch-size 2 --seq-len 256 --derive --format json")
    assert ran.code == 0
    assert {"prefill_seconds", "decode_step_seconds", "tokens_per_second"} <= {
        d["key"] for d in ran.json["derivations"]
    }
    assert "Latency against throughput" in llmcalc("infer --model gpt2 --plot --seq-len 128").out


def test_fit(llmcalc):
    assert llmcalc("infer --model llama-3-70b --check-fit").code == 3
    assert llmcalc("infer --model llama-3-8b --check-fit").code == 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--model bert-base-uncased", "an encoder generates nothing"),
        ("--model symbolic", "--model symbolic has none"),
        ("--dtype nf4", "weights stored in fewer bits: --quantization"),
        ("--kv-dtype nf4", "KV caches are not stored as nf4"),
        ("--engine triton", "unknown --engine 'triton'"),
        ("--gpus 3", "32 attention heads cannot be split evenly over 3"),
        ("--gpus 0", "--gpus"),
        ("--gpus 100000", "--gpus must be between 1 and 1024"),
        ("--gpu h1000", "unknown GPU 'h1000'"),
        ("--price -1", "--price must be >= 0"),
        ("--price nan", "--price"),
        ("--draft-model gpt2", "its vocabulary is not llama-3-8b's"),
        ("--draft-model llama-3.2-1b --alpha -0.1", "--alpha must be a probability"),
        ("--draft-model llama-3.2-1b --gamma 0", "--gamma must be between 1 and 1000"),
        ("--quantization nf5", "unknown --quantization 'nf5'"),
        ("--new-tokens 0", "--new-tokens must be > 0"),
    ],
)
def test_bad_input(llmcalc, argv, says):
    ran = llmcalc(f"infer {argv}")
    assert ran.code == 2
    assert ran.out == ""
    lines = [x for x in ran.err.splitlines() if not x.startswith("note: ")]
    assert len(lines) == 1
    assert says in lines[0]
