"""Presets: every file loads, names are unique, figures are sane and have sources."""

from __future__ import annotations

import gzip
import json
import re
import tomllib
from pathlib import Path

import pytest

from estimator import presets
from estimator.checked import ModelSpec, checked_gpu
from estimator.errors import InputError
from estimator.families import FAMILIES
from tests.exact.test_remote_code import CASES, ELMS, SEEING

GPUS, MODELS = presets.ids("gpus"), presets.ids("models")
DATA = Path(__file__).parents[1] / "data"


def test_how_many():
    assert len(GPUS) >= 136
    assert len(MODELS) >= 160


@pytest.mark.parametrize("kind", ["gpus", "models"])
def test_ids_and_aliases(kind):
    """No alias is an id or taken twice, every alias leads to an id, and lower case is enough."""
    ids, aliases = presets.ids(kind), presets.aliases(kind)
    assert not set(ids) & set(aliases)
    assert set(aliases.values()) <= set(ids)
    lists = json.loads((presets.folder() / "aliases.json").read_bytes())[kind]
    assert sum(map(len, lists.values())) == len(aliases)
    for name in (*ids, *aliases):
        assert name == name.lower()
    for name in ids:
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
        assert presets.find(kind, name.upper()) == name


@pytest.mark.parametrize("name", GPUS)
def test_gpu(name):
    spec = presets.load_gpu(name)
    assert spec.id == name
    assert repr(spec) == repr(checked_gpu({"id": name, **presets.read("gpus", name)[1]}, name))  # the floats too
    assert spec.source
    assert spec.memory_bytes > 0
    assert spec.memory_basis.startswith(name)
    assert spec.bandwidth_bytes_s > 5e10
    for dtype in ("fp16", "bf16", "fp8", "fp32"):
        peak = spec.peak_flops(dtype)
        assert peak is None or 1e12 < peak < 1e17
        ceiling = spec.ceiling_flops(dtype)
        assert ceiling is None or peak is None or ceiling <= peak
    if spec.memory.reported_mib:  # decimal labels, binary reports
        assert 0.9 < spec.memory.reported_mib * 2**20 / spec.sold_bytes < 1.1


def test_dense_peaks():
    """The figures that are most often given with sparsity, or for another accumulator."""
    peaks = {"h100-sxm": 989.5e12, "h200": 989.5e12, "a100-80gb": 312e12, "rtx-4090": 165.2e12, "rtx-3090": 71e12}
    for name, peak in peaks.items():
        assert presets.load_gpu(name).peak_flops("bf16") == peak
    assert presets.load_gpu("h100").peak_flops("fp8") == 1979e12
    assert presets.load_gpu("a100").peak_flops("fp8") is None
    assert presets.load_gpu("t4").peak_flops("bf16") is None


def test_measured_ceilings():
    h100 = presets.load_gpu("h100").measured
    assert h100 is not None
    assert h100.memory_bytes == 85017493504
    assert h100.context_bytes == 648871936
    assert set(h100.gemm_tflops) == {1024, 2048, 4096, 8192, 16384}


def test_prices_have_date_and_source():
    prices = [p for name in GPUS for p in presets.load_gpu(name).prices]
    assert len(prices) >= 43
    assert all(p.date and p.source and p.usd_per_hour < 20 for p in prices)


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    found, data = presets.load_model_preset(name)
    spec = ModelSpec.model_validate({"id": found, **data})
    assert spec.config["model_type"] in FAMILIES
    assert spec.expect.active_params <= spec.expect.total_params


def types(config):
    """The model_type of a config and of its parts."""
    parts = [part for part in config.values() if isinstance(part, dict)]
    return {config.get("model_type"), *(t for part in parts for t in types(part))}


def test_every_family_is_held_to_transformers():
    used = {presets.load_model_preset(name)[1]["config"]["model_type"] for name in MODELS}
    for case in json.loads(gzip.decompress((DATA / "family_variants_multimodal.json.gz").read_bytes())):
        used |= types(case["config"])
    recorded = json.loads(gzip.decompress((DATA / "family_variants_more.json.gz").read_bytes()))
    used |= {case["config"]["model_type"] for case in recorded["cases"]}
    remote = {config["model_type"] for config, *_ in (CASES | ELMS | SEEING).values()} | {"internlm", "new"}
    elsewhere = {"symbolic", "gemma3n", "qwen3_tts", "unlimited-ocr"}  # test_gemma_3n_is_timms, test_weights_alone
    elsewhere |= {"rwkv6", "rwkv6qwen2", "rwkv7", "rwkv7_fla", "rwkv_hybrid"}  # tests/exact/test_rwkv.py
    assert set(FAMILIES) - used - remote <= elsewhere


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("H100", "h100-sxm"),
        ("a100", "a100-80gb"),
        ("4090", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("tpuv5e", "tpu-v5e"),
        ("RTX3060", "rtx-3060"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),  # as nvidia-smi, rocm-smi, torch and llama.cpp print them
        ("NVIDIA GeForce RTX 4060 Ti", "rtx-4060-ti"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("Tesla V100-SXM2-16GB", "v100-16gb"),
        ("AMD Radeon RX 7900 XTX", "rx-7900-xtx"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Intel(R) Arc(TM) B580 Graphics", "arc-b580"),
        ("Apple M2 Max", "m2-max"),
        ("Apple M4 Max 64GB", "m4-max-64gb"),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "strix-halo"),
        ("RTX 4090 24GB", "rtx-4090"),  # the size that it has
        ("RTX 3080 12GB", "rtx-3080-12gb"),
        ("RTX 3080 10GB", "rtx-3080"),
    ],
)
def test_gpus_as_people_say_them(said, meant):
    assert presets.load_gpu(said).id == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("llama3-8b", "llama-3-8b"),
        ("gpt-2", "gpt2"),
        ("mixtral", "mixtral-8x7b"),
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("mistral-7b", "mistral-7b-v0.1"),
    ],
)
def test_models_as_people_say_them(said, meant):
    assert presets.find("models", said) == meant


@pytest.mark.parametrize("name", ["h1000", "", "../gpus/h100-sxm", "h100-sxm\0", "x" * 5000, "/etc/passwd"])
def test_unknown_gpu(name):
    with pytest.raises(InputError, match="unknown GPU"):
        presets.load_gpu(name)


@pytest.mark.parametrize(("said", "hint"), [
    ("RTX 4090 48GB", "Did you mean"),  # nobody sells it with so much
    ("RTX 4090 Laptop GPU", "unknown GPU"),  # another chip
    ("24", "A card of that size: --gpu 24GB"),
    ("24G", "A card of that size: --gpu 24GB"),
    ("8xh100", "For 8 of them: --gpu h100-sxm --gpus 8"),
    ("H100x8", "For 8 of them: --gpu h100-sxm --gpus 8"),
])  # fmt: skip
def test_what_is_no_card_says_what_to_write(said, hint):
    with pytest.raises(InputError, match=hint):
        presets.load_gpu(said)


def test_did_you_mean():
    with pytest.raises(InputError, match="Did you mean 'h100-sxm'"):
        presets.load_gpu("h100-sxn")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bandwidth": {"gb_s": -1, "verified": True}}, "greater than 0"),
        ({"bandwidth": {"gb_s": float("nan"), "verified": True}}, "finite"),
        ({"bandwidht": 1}, "no such field"),
        ({"compute": {"bf16": 1.0, "verified": ["fp8"]}}, "no figure"),
        ({"source": ""}, "at least 1 character"),
    ],
)
def test_schema_refuses(change, says):
    data = tomllib.loads((presets.folder() / "gpus" / "t4.toml").read_text())
    with pytest.raises(InputError, match=says):
        checked_gpu({"id": "t4", **data, **change}, "t4.toml")


def test_memory_that_programs_read():
    """What cudaMemGetInfo told programs goes before the vendor's label and the driver's print, and says its source."""
    read = {"rtx-3090": 23.58, "rtx-4090": 23.55, "a100-40gb": 39.38, "h100-nvl": 93.02, "t4": 14.56, "rtx-3080": 9.78}
    for name, gib in read.items():
        spec = presets.load_gpu(name)
        assert spec.memory_bytes == round(gib * 2**30)
        assert "as programs read it" in spec.memory_basis
        assert spec.memory.read_source


def test_every_reading_names_its_source():
    for name in GPUS:
        memory = presets.load_gpu(name).memory
        assert (memory.read_gib is None) == (memory.read_source is None)
        assert (memory.shown_share is None) == (memory.shown_source is None)


def test_cards_that_nobody_read_have_the_least_share_of_those_of_their_kind():
    """A GeForce tells programs 97 to 99.5% of its label in GiB; by the label in GB a 4070 had 11.18 of them."""
    read = [m for n in GPUS if (m := presets.load_gpu(n).memory).read_gib and n.startswith("rtx-") and n[4].isdigit()]
    geforce = [m.read_gib / m.sold_gb for m in read if "Ada" not in m.read_source and "ECC" not in m.read_source]
    assert len(geforce) == 9
    assert min(geforce) == 0.96875
    for name in ("rtx-4070", "rtx-5080", "rtx-3060-ti"):
        spec = presets.load_gpu(name)
        assert spec.memory_bytes == spec.memory.sold_gb * 2**30 * min(geforce)
        assert "was not read" in spec.memory_basis
    radeon = [presets.load_gpu(n).memory for n in ("r9700", "rx-7900-xt", "rx-7900-xtx")]
    least = min(m.read_gib / m.sold_gb for m in radeon)
    assert presets.load_gpu("rx-9070-xt").memory.shown_share == pytest.approx(least, abs=1e-4)


KINDS = {
    "rtx-a5000": ("rtx-a4000", "rtx-a6000", "rtx-pro-6000"),  # workstations without ECC
    "l40": ("a10", "l4", "l40s", "a40"),  # GDDR6 with ECC on
    "p100-pcie": ("a30", "a100-40gb", "a100-80gb", "h100-nvl", "h200"),  # HBM of NVIDIA
    "mi210": ("mi250", "mi250x", "mi325x", "mi355x"),
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_servers_and_workstations_that_nobody_read_have_the_least_share_of_their_kind(name, kind):
    memory = [presets.load_gpu(n).memory for n in kind]
    least = min(m.read_gib / m.sold_gb for m in memory)
    assert 0 <= least - presets.load_gpu(name).memory.shown_share < 1e-4


def test_binary_memory_is_not_cut_to_decimal():
    """By the label an RTX A5000 had 22.35 GiB, an MI325X 238.4, an MI355X 268.2."""
    read = {"a30": 23.5, "mi250x": 127.969, "mi325x": 255.98, "mi355x": 287.98}
    assert {n: presets.load_gpu(n).memory_bytes for n in read} == {n: round(x * 2**30) for n, x in read.items()}
    shown = {"rtx-a5000": 24564, "rtx-5000-ada": 32760, "p100-pcie": 16384}  # nvidia-smi's
    for name, mib in shown.items():
        spec = presets.load_gpu(name)
        assert 0.97 < spec.memory_bytes / (mib * 2**20) < 1
        assert f"the driver reports {mib:,} MiB" in spec.memory_basis


def test_a_card_without_cublas_has_no_workspace_of_it(llmcalc):
    for card, said in (("m2-max", "no workspace of cuBLAS"), ("h100-sxm", "cuBLAS keeps 32 MiB")):
        found = llmcalc(f"memory qwen3-0.6b --gpu {card} --detail").out
        assert said in " ".join(found.split())
        assert ("cuBLAS: workspaces" in found) == (card == "h100-sxm")


def test_kernels_follow_the_compute_capability():
    """PyTorch's rules: flash attention and bf16 products from 8.0; 32 MiB of workspace on 9.0, 10.x and 12.x."""
    for name in GPUS:
        spec = presets.load_gpu(name)
        if spec.vendor != "NVIDIA":
            assert spec.compute_capability is None
            continue
        assert spec.compute_capability is not None
        major = int(spec.compute_capability.split(".")[0])
        assert spec.flash_attention is (major >= 8)
        assert spec.bf16 is (major >= 8)
        assert spec.bf16 is (spec.peak_flops("bf16") is not None)
        assert spec.cublas_workspace == (32 * 2**20 if major in (9, 10, 12) else 8_519_680)


def test_apple_machines_by_memory():
    """The GPU may wire 3/4 of the memory from 36 GB on, 2/3 below; the label counts GiB."""
    assert presets.load_gpu("m4-max").memory_bytes == 96 * 2**30
    assert presets.load_gpu("m2-max-32gb").memory_bytes == 32 * 2**30 * 2 // 3
    assert presets.load_gpu("M2 Max 64GB").memory_bytes == 48 * 2**30
    assert presets.load_gpu("m1-16gb").id == "m1-16gb"
    with pytest.raises(InputError, match=r"m2-max is sold with 32, 64, 96 GB, not 33"):
        presets.load_gpu("m2-max-33gb")


def test_a_file_of_the_users_own_is_checked(llmcalc, tmp_path):
    text = (presets.folder() / "gpus" / "t4.toml").read_text()
    place = tmp_path / "mine.toml"
    place.write_text(text)
    assert presets.load_gpu(str(place)).bandwidth == presets.load_gpu("t4").bandwidth
    place.write_text(text.replace('name = "', 'name = "\\u001b[31m', 1))
    assert presets.load_gpu(str(place)).name.startswith("\x1b[31m")  # read again where it was written again
    ran = llmcalc(f"flops --model pythia-14m --dtype fp16 --gpu {place} --plot --format html")
    assert (ran.code, "\x1b" in ran.out, "<svg" in ran.out) == (0, False, True)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace("gb_s = 320", "gb_s = -320"))
    with pytest.raises(InputError, match=r"wrong\.toml: bandwidth\.gb_s: Input should be greater than 0, got -320"):
        presets.load_gpu(str(wrong))


def test_labels_are_read_off_without_parsing():
    """What ``presets.sold`` reads is what the files say, and no program gets much more than the label."""
    read = presets.sold()
    assert set(read) == set(GPUS)
    for name in GPUS:
        spec = presets.load_gpu(name)
        assert read[name] == (spec.vendor, spec.memory.sold_gb)
        assert spec.memory_bytes < presets.LABEL * spec.memory.sold_gb * 2**30
