"""The cards that people have: each is there by name, with sources, and every command that needs one runs on it."""

from __future__ import annotations

import pytest

from estimator import presets

OWNED = [
    "rtx-2080-ti", "rtx-3060", "rtx-3070", "rtx-3080", "rtx-3080-ti", "rtx-3090-ti", "rtx-4060", "rtx-4060-ti",
    "rtx-4070", "rtx-4070-ti", "rtx-4070-super", "rtx-4080", "rtx-4080-super", "rtx-5060", "rtx-5060-ti", "rtx-5070",
    "rtx-5070-ti", "rtx-5080", "a4000", "a5000", "a6000", "4000-ada", "5000-ada", "l40", "t4", "v100", "p100", "p40",
    "7900-xt", "7900-xtx", "9070-xt", "w7900", "mi210", "mi250", "m1", "m2", "m3", "m4", "m5", "dgx-spark",
    "jetson-agx-orin", "gaudi-2", "gaudi-3", "tpu-v5e",
]  # fmt: skip


@pytest.mark.parametrize("name", OWNED)
def test_there_by_name(name):
    found = [x for x in presets.ids("gpus") if name in x]
    assert found
    assert all(presets.load_gpu(x).memory_basis for x in found)


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(4))
def test_every_card_answers(llmcalc, part):
    for name in presets.ids("gpus")[part::4]:
        for command in ("infer", "memory"):
            ran = llmcalc(f"{command} -m llama-3.2-1b --gpu {name} --format json")
            assert ran.code == 0, (name, ran.err)
            assert ran.results["fits"] in ("yes", "tight", "no")
