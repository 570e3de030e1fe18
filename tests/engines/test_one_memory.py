"""Machines whose GPU has no memory of its own: what lies on the host lies in the same."""

from __future__ import annotations

import re

import pytest

from estimator import api
from estimator.card import find_card
from estimator.errors import InputError
from estimator.presets import ids, load_gpu

GIB = 1024**3


def advised(report):
    """The options of the best change that a verdict names."""
    return re.findall(r"--([a-z-]+) ([a-z0-9_]+)", report.verdict)


def test_presets_of_one_memory_say_the_whole():
    shared = {name: load_gpu(name).machine_bytes for name in ids("gpus")}
    assert {name for name, n in shared.items() if n is not None} == {
        name for name in ids("gpus") if load_gpu(name).memory.unified
    }
    assert shared["m4-max"] == shared["strix-halo"] == 128 * GIB  # of which 96 GiB are the GPU's
    assert shared["dgx-spark"] == load_gpu("dgx-spark").memory_bytes == round(121.69 * GIB)
    assert find_card("m3-max-64gb").machine == 64 * GIB
    assert find_card("rtx-4090").machine is None
    assert all(n >= load_gpu(name).memory_bytes for name, n in shared.items() if n is not None)


@pytest.mark.parametrize(("model", "mix", "gpu"), [("deepseek-v3", "q4_k_m", "m4-max"),
                                                   ("deepseek-v3", "q4_k_m", "dgx-spark")])  # fmt: skip
def test_what_the_machine_does_not_hold_gets_no_advice(model, mix, gpu):
    made = api.memory(model, quantization=mix, gpu=gpu, ctx_size="8k")
    assert made.facts["fits"] == "no"
    assert made.verdict.endswith("No layer fits, nor does a smaller mix.")
    assert made.results()["gpu_layers.max"] == 0


@pytest.mark.parametrize(("model", "mix", "gpu"), [("llama-3.1-70b", "q8_0", "m3-max-64gb"),
                                           ("llama-3.1-70b", "q6_k", "m3-max-64gb"),
                                           ("qwen3-235b-a22b", "q3_k_m", "strix-halo"),
                                           ("qwen3-235b-a22b", "q4_k_m", "strix-halo")])  # fmt: skip
def test_advice_fits_the_machine(model, mix, gpu):
    asked = {"quantization": mix, "gpu": gpu}
    made = api.memory(model, **asked)
    assert made.facts["fits"] == "no"
    more = {name.replace("-", "_"): value for name, value in advised(made)}
    found = api.memory(model, **asked | more)
    assert more
    assert found.facts["fits"] == "yes"
    held = found.results()
    assert held["device_bytes"] + held["host_bytes"] <= find_card(gpu).machine


def test_layers_on_the_host_of_one_memory_are_counted_twice_no_more():
    asked = {"quantization": "q8_0", "gpu": "m3-max-64gb", "gpu_layers": 52}
    made = api.memory("llama-3.1-70b", **asked)  # 45 GiB of the GPU's 48, 26 GiB beside it, of 64
    assert made.facts["fits"] == "no"
    assert "the machine (m3-max-64gb, GPU and host together) has 64.00 GiB" in made.verdict
    assert made.results()["have_bytes"] == 64 * GIB
    larger = api.memory("llama-3.1-70b", **asked, ram="96GiB")  # --ram is the machine's
    assert larger.facts["fits"] == "yes"
    assert larger.results()["have_bytes"] == 48 * GIB
    assert api.infer("llama-3.1-70b", **asked, engine="llama.cpp").facts["fits"] == "no"
    assert api.kvcache("llama-3.1-70b", **asked, engine="llama.cpp").facts["fits"] == "no"


def test_ram_bounds_what_is_left_to_the_host():
    made = api.memory("llama-3.1-70b", quantization="q6_k", gpu="rtx-4090", ram="32GB")
    assert dict(advised(made)).keys() == {"quantization"}  # 33 layers fit the card, the rest not the host
    more = api.memory("llama-3.1-70b", quantization="q6_k", gpu="rtx-4090", ram="64GB")
    assert "With --gpu-layers 33 of 81 it fits, the rest on the host." in more.verdict


def test_offloading_within_one_memory():
    asked = {"mode": "training", "gpus": 2, "stage": 3, "offload": "all"}
    made = api.memory("llama-3-8b", gpu="strix-halo", **asked)
    got = made.results()
    both = api.memory("llama-3-8b", gpu="strix-halo", ram="50GiB", **asked)
    assert got["host_bytes"] == got["host_node_bytes"]  # a machine has one GPU
    assert both.facts["fits"] in ("tight", "no")
    assert made.facts["fits"] == "yes"
    assert got["need_bytes"] < 20 * GIB < got["host_bytes"] < 30 * GIB
    alone = api.train("llama-3-8b", gpu="strix-halo", ram="64GB")
    assert alone.facts["fits"] == "no"
    assert "the machine (strix-halo" in alone.verdict
    with pytest.raises(InputError, match="--ram 64GB"):
        api.memory("llama-3-8b", mode="training", gpu="h100-sxm", ram="64GB")
