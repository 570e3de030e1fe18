"""Training steps against times measured on one H100 80GB (torch 2.11, transformers 5.17, bf16, SDPA, fused AdamW)."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from estimator.errors import DoesNotFit, InputError
from estimator.estimates.train import Run, train
from estimator.models import Model, load_model

# model, batch, tokens, LoRA of rank 16 on all linear layers, every layer checkpointed, seconds
MEASURED = [
    ("gpt2-xl", 4, 1024, False, False, 0.15069),
    ("llama-3.2-1b", 4, 2048, False, False, 0.17671),
    ("llama-3.2-1b", 1, 512, False, False, 0.06801),
    ("llama-3.2-3b", 2, 2048, False, False, 0.22282),
    ("tinyllama-1.1b", 4, 2048, False, False, 0.17012),
    ("llama-3.2-1b", 4, 2048, False, True, 0.21457),
    ("tinyllama-1.1b", 2, 8192, False, True, 0.49762),
    ("llama-2-7b", 2, 2048, True, True, 0.68484),
    ("llama-3-8b", 2, 2048, True, False, 0.50373),
]


def options(b: int, s: int, lora: bool, checkpoint: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"batch_size": b, "seq_len": s, "checkpointing": "full" if checkpoint else "none"}
    return made | ({"method": "lora", "rank": 16, "targets": "all-linear"} if lora else {})


@pytest.fixture(scope="module")
def small() -> Model:
    return load_model("gpt2")


def results(model: Model, run: Run | None = None, **given: Any) -> dict[str, Any]:
    return train(model, run or Run(steps=10), **({"batch_size": 4, "seq_len": 512} | given)).results()


def test_steps_as_measured() -> None:
    errors = []
    for name, b, s, lora, checkpoint, seconds in MEASURED:
        r = train(load_model(name), Run(steps=1), **options(b, s, lora, checkpoint)).results()
        assert r["step_seconds.ideal"] <= seconds
        assert r["step_seconds.low"] <= r["step_seconds"] <= r["step_seconds.high"]
        errors.append(abs(r["step_seconds"] / seconds - 1))
    print("relative errors:", [f"{e:.1%}" for e in errors])
    assert median(errors) < 0.03
    assert max(errors) < 0.05


@pytest.mark.parametrize("gpu", ["a100-80gb", "h200", "mi300x", "b200", "l40s"])
def test_other_gpus_are_scaled_and_say_so(small: Model, gpu: str) -> None:
    report = train(small, Run(steps=1), gpu=gpu, batch_size=4, seq_len=512)
    assert any("scaled, not measured" in a for a in report.assumptions)
    assert 0 < report.results()["mfu"] < 1


def test_scaling_of_a_run(small: Model) -> None:
    one, two = results(small, Run(tokens=10**9)), results(small, Run(tokens=2 * 10**9))
    for key in ("hours", "gpu_hours", "usd", "energy_kwh", "co2_kg"):
        assert two[key] == pytest.approx(2 * one[key])
    dear = results(small, Run(tokens=10**9, price=4, pue=1.5, intensity=0.8))
    cheap = results(small, Run(tokens=10**9, price=2, pue=1.0, intensity=0.4))
    assert dear["usd"] == pytest.approx(2 * cheap["usd"])
    assert dear["energy_kwh"] == pytest.approx(1.5 * cheap["energy_kwh"])
    assert dear["co2_kg"] == pytest.approx(3 * cheap["co2_kg"])
    assert results(small, Run(tokens=10**9, goodput=0.5))["hours"] == pytest.approx(2 * one["hours"])


def test_mfu_replaces_the_roofline(small: Model) -> None:
    r = results(small, Run(steps=1, mfu="40%"))
    assert r["mfu"] == pytest.approx(0.4)
    assert results(small, Run(steps=1, mfu=0.2))["step_seconds"] == pytest.approx(2 * r["step_seconds"])


def test_packing_takes_fewer_steps(small: Model) -> None:
    padded = results(small, Run(examples=10_000, epochs=3, mean_tokens=128))
    packed = results(small, Run(examples=10_000, epochs=3, mean_tokens=128, packing=True))
    assert (padded["steps"], packed["steps"]) == (7500, 1875)


def test_gradients_between_gpus_only_cost_where_they_are_not_hidden(small: Model) -> None:
    fast, slow = results(small, Run(steps=1, gpus=8)), results(small, Run(steps=1, gpus=8, link=0.5))
    assert fast["step_seconds"] < slow["step_seconds"]
    assert fast["communication_seconds"] == pytest.approx(slow["communication_seconds"] * 0.5 / 450)


@pytest.mark.parametrize(
    ("run", "given", "says"),
    [
        (Run(mfu=0), {}, "--mfu"),
        (Run(mfu=1.01), {}, "--mfu"),
        (Run(mfu="nan"), {}, "--mfu"),
        (Run(price=-1), {}, "--price"),
        (Run(goodput=0), {}, "--goodput"),
        (Run(pue=0.9), {}, "--pue"),
        (Run(power=0), {}, "--power"),
        (Run(gpus=0), {}, "--gpus"),
        (Run(intensity=-1), {}, "--carbon-intensity"),
        (Run(tokens=5, steps=5), {}, "--tokens"),
        (Run(mtbf=0.1, gpus=10000), {}, "--mtbf"),
        (Run(examples=10, mean_tokens=9999), {}, "--mean-tokens"),
        (Run(), {"gpu": "v100"}, "bf16"),
        (Run(), {"recipe": "x"}, "--recipe"),
        (Run(), {"optimizer": "x"}, "--optimizer"),
        (Run(), {"quantization": "q4_k_m"}, "--quantization"),
    ],
)
def test_bad_input(small: Model, run: Run, given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        train(small, run, **({"batch_size": 1, "seq_len": 128} | given))


def test_what_does_not_fit_is_noted_and_an_error_on_request() -> None:
    model = load_model("llama-3-8b")
    report = train(model, Run(steps=1), batch_size=8, seq_len=4096)
    assert report.results()["fits"] is False
    assert any("does not fit" in n for n in report.notes)
    with pytest.raises(DoesNotFit):
        train(model, Run(steps=1), batch_size=8, seq_len=4096, check_fit=True)
