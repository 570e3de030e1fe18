"""Published FLOPs, utilisations, days, GPU-hours, energy, carbon and cost, within their printed precision."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.formulas.cost import rental_usd
from estimator.formulas.energy import co2_kg, embodied_kg, energy_kwh
from estimator.formulas.flops import (
    chinchilla_training_flops,
    megatron_hardware_flops,
    megatron_model_flops,
    narayanan_flops,
    palm_training_flops,
    training_flops_6nd,
    training_flops_encoder_decoder,
    utilisation,
)
from estimator.formulas.time import checkpoint_interval, end_to_end_seconds, goodput

DAY = 86400
PETAFLOP_DAY = 8.64e19
A100, H100, TPU_V4 = 312e12, 989.5e12, 275e12
KG_A_TONNE = 1000

# Brown et al. 2020, GPT-3, table D.1: parameters (M), tokens (B), encoder-decoder, FLOPs, PF-days
D1 = [
    (60, 1000, True, 1.80e20, 2.08), (220, 1000, True, 6.60e20, 7.64), (770, 1000, True, 2.31e21, 26.7),
    (3000, 1000, True, 9.00e21, 104), (11000, 1000, True, 3.30e22, 382), (109, 250, False, 1.64e20, 1.89),
    (355, 250, False, 5.33e20, 6.16), (125, 2000, False, 1.50e21, 17.4), (355, 2000, False, 4.26e21, 49.3),
    (125, 300, False, 2.25e20, 2.60), (356, 300, False, 6.41e20, 7.42), (1320, 300, False, None, 27.5),
    (2650, 300, False, None, 55.2), (6660, 300, False, None, 139), (174600, 300, False, 3.14e23, 3640),
]  # fmt: skip


@pytest.mark.parametrize("row", D1)
def test_gpt3_table_d1(row: Any) -> None:
    params, tokens, two_sided, flops, days = row
    rule = training_flops_encoder_decoder if two_sided else training_flops_6nd
    got = rule(params * 10**6, tokens * 10**9)
    assert got / PETAFLOP_DAY == pytest.approx(days, rel=0.006)
    if flops:
        assert got == pytest.approx(flops, rel=0.006)


# Korthikanti et al. 2022, tables 3 to 5: L, h, batch, GPUs, seconds, MFU, HFU
KORTHIKANTI = [
    (48, 6144, 4, 8, 1.10, 41.5, 43.7), (96, 12288, 64, 64, 13.75, 51.4, 52.8),
    (105, 20480, 280, 280, 37.83, 56.0, 57.0), (128, 25600, 512, 512, 71.49, 56.3, 57.0),
]  # fmt: skip


@pytest.mark.parametrize(("L", "d", "b", "gpus", "t", "mfu", "hfu"), KORTHIKANTI)
def test_korthikanti(L: int, d: int, b: int, gpus: int, t: float, mfu: float, hfu: float) -> None:
    s, V = 2048, 51200
    model, hardware = megatron_model_flops(b, L, s, d, V), megatron_hardware_flops(b, L, s, d, V)
    assert 100 * utilisation(model, t, gpus, A100) == pytest.approx(mfu, abs=0.3)
    assert mfu * hardware / model == pytest.approx(hfu, abs=0.15)


def test_korthikanti_extra_flops_of_selective_recomputation() -> None:
    for d, percent in ((20480, 1.6), (12288, 2.7)):
        s = 2048
        assert 100 * ((1 + s / (3 * d)) / (1 + s / (6 * d)) - 1) == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize(
    ("P", "D", "n", "X", "days"), [(175e9, 300e9, 1024, 140e12, 34), (1.008e12, 450e9, 3072, 163e12, 84)]
)
def test_megatron_days(P: float, D: float, n: int, X: float, days: float) -> None:
    assert end_to_end_seconds(D, P, n, X) / DAY == pytest.approx(days, abs=0.5)


@pytest.mark.parametrize(("nodes", "t", "tflops"), [(350, 50.2, 121), (420, 44.4, 113)])
def test_mt_nlg(nodes: int, t: float, tflops: float) -> None:
    got = narayanan_flops(1920, 105, 2048, 20480, 51200) / (8 * nodes * t) / 1e12
    assert got == pytest.approx(tflops, rel=0.015)


def test_nanogpt() -> None:
    """karpathy/nanoGPT, transformer_sizing.ipynb: exact counts of GPT-2 at 1,024 tokens."""
    from estimator.commands.flops.report import flops
    from estimator.models import load_model

    results = flops(load_model("gpt2"), seq_len=1024, mode="training", attention="eager").results()
    assert (results["forward_flops"], results["total_flops"]) == (291648307200, 874944921600)
    assert palm_training_flops(123551232, 1024, 12, 12, 64, 1024) == 875062886400
    assert 100 * utilisation(874944921600, 0.755, 1, A100 / 100) == pytest.approx(37.14, abs=0.005)


def test_palm() -> None:
    assert 100 * utilisation(training_flops_6nd(540e9, 238.3e3), 1, 6144, TPU_V4) == pytest.approx(45.7, abs=0.05)
    with_attention = palm_training_flops(540.35e9, 238.3e3, 118, 48, 256, 2048)
    assert 100 * utilisation(with_attention, 1, 6144, TPU_V4) == pytest.approx(46.2, abs=0.1)
    assert palm_training_flops(540.35e9, 780e9, 118, 48, 256, 2048) == pytest.approx(2.56e24, rel=0.005)


def test_llama3_compute() -> None:
    assert training_flops_6nd(405.85e9, 15.6e12) == pytest.approx(3.8e25, rel=0.013)
    assert 100 * utilisation(430e12, 1, 1, H100) == pytest.approx(43, abs=0.5)


CHINCHILLA = [
    (10, 640, 2560, 10, 73825280, 1.03), (20, 1024, 4096, 16, 305707008, 1.10), (26, 1792, 7168, 14, 1143453696, 1.04),
    (28, 2048, 8192, 16, 1593126912, 1.03), (40, 3584, 14336, 28, 6796274688, 0.99),
]  # fmt: skip


@pytest.mark.parametrize(("L", "d", "ff", "h", "N", "ratio"), CHINCHILLA)
def test_chinchilla_table_a4(L: int, d: int, ff: int, h: int, N: int, ratio: float) -> None:
    assert chinchilla_training_flops(L, d, ff, h, 2048) / training_flops_6nd(N, 2048) == pytest.approx(ratio, abs=0.006)


def test_deepseek_v3() -> None:
    assert rental_usd(2788000, 2) == 5576000
    assert rental_usd(2664000, 2) == 5328000
    assert 100 * utilisation(training_flops_6nd(37e9, 14.8e12), 2.79e6 * 3600, 1, 1513e12) == pytest.approx(
        21.7, abs=0.15
    )


def test_mpt_7b_cost() -> None:
    assert rental_usd(440 * 9.5 * 24, 2) == pytest.approx(200000, rel=0.01)


# GPU-hours, watts, PUE, kg a kWh, tonnes
CARBON = [
    (82432, 400, 1.1, 0.385, 14, 0.6), (135168, 400, 1.1, 0.385, 23, 0.6), (530432, 400, 1.1, 0.385, 90, 0.6),
    (1022362, 400, 1.1, 0.385, 173, 0.6), (809472, 400, 1.1, 0.385, 137, 0.6), (1082880, 400, 1.1, 0.385, 183, 0.6),
    (184320, 400, 1.1, 0.385, 31.22, 0.011), (368640, 400, 1.1, 0.385, 62.44, 0.011),
    (1720320, 400, 1.1, 0.385, 291.42, 0.011), (1038336, 350, 1.1, 0.385, 153.90, 0.011),
    (1082990, 400, 1.0, 0.057, 24.7, 0.05), (1.3e6, 700, 1.0, 0.4286, 390, 4.7), (6.4e6, 700, 1.0, 0.4286, 1900, 23),
    (1.46e6, 700, 1.0, 0.414, 420, 5.1), (7.0e6, 700, 1.0, 0.414, 2040, 25), (30.84e6, 700, 1.0, 0.414, 8930, 108),
    (5.0e6, 700, 1.0, 0.387, 1354, 17), (2.38e6, 700, 1.0, 0.387, 645, 8),
]  # fmt: skip


@pytest.mark.parametrize(("hours", "watts", "pue", "intensity", "tonnes", "within"), CARBON)
def test_carbon_of_llama_and_bloom(
    hours: float, watts: float, pue: float, intensity: float, tonnes: float, within: float
) -> None:
    assert co2_kg(energy_kwh(hours, watts, pue), intensity) / KG_A_TONNE == pytest.approx(tonnes, abs=within)


@pytest.mark.parametrize(
    ("chips", "days", "watts", "pue", "mwh"),
    [(512, 20, 310, 1.12, 85.7), (1024, 30, 289, 1.09, 232), (1024, 3.1, 288, 1.09, 24.1), (1024, 27, 245, 1.10, 179)],
)
def test_patterson_energy(chips: int, days: float, watts: float, pue: float, mwh: float) -> None:
    assert energy_kwh(chips * days * 24, watts, pue) / 1000 == pytest.approx(mwh, rel=0.01)


def test_energy_of_other_runs() -> None:
    assert energy_kwh(320256, 280, 1.0) == pytest.approx(89671.68, rel=0.005)  # StarCoder
    assert energy_kwh(1082990, 400, 1.0) == pytest.approx(433196, abs=1)  # BLOOM
    assert co2_kg(1287e3, 0.429) / KG_A_TONNE == pytest.approx(552.1, abs=0.1)  # GPT-3


# measured runs: parameters, tokens, peak, GPU-hours; their implied MFU must be one that machines reach
RUNS = [
    (1011781632, 299892736000, A100, 4830), (6856294400, 299892736000, A100, 33500),
    (11842140160, 299892736000, A100, 72300),
    (176247e6, 366e9, A100, 1082990), (3075098624, 11.2e12, 989e12, 221184), (179522565120, 3.5e12, A100, 7e6),
    (15.5e9, 1e12, A100, 320256), (6.7e9, 1e12, A100, 100320), (405853388800, 15.6e12, 989e12, 30.84e6),
    (70553706496, 15e12, 989e12, 7e6), (8030261248, 15e12, 989e12, 1.46e6), (68976653312, 2e12, A100, 1720320),
    (6738417664, 2e12, A100, 184320),
]  # fmt: skip


@pytest.mark.parametrize(("P", "D", "peak", "hours"), RUNS)
def test_implied_mfu_of_measured_runs(P: float, D: float, peak: float, hours: float) -> None:
    assert 0.10 < utilisation(training_flops_6nd(P, D), hours * 3600, 1, peak) < 0.70


def test_goodput_of_llama3() -> None:
    """Llama 3, arXiv 2407.21783, section 3.3.4: 419 unexpected interruptions in 54 days, over 90% effective."""
    mtbf = 54 * DAY / 419
    interval = checkpoint_interval(10, mtbf)
    assert goodput(10, interval, mtbf, 300) > 0.90


def test_embodied_carbon_scales_with_use() -> None:
    assert embodied_kg(2000, 150, 50000) == 2 * embodied_kg(1000, 150, 50000)
