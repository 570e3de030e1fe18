"""Adapters beside a model in llama.cpp: their buffers and the compute buffer with them, all equal to its own."""

from __future__ import annotations

import json
from functools import cache
from math import prod
from pathlib import Path

import pytest

from estimator import api
from estimator.engines.llamacpp.allocate import aligned, compute_bytes
from estimator.engines.llamacpp.lora import places, read
from estimator.engines.llamacpp.model import build as micro_batch
from estimator.errors import InputError
from estimator.families.common_gguf import gguf_of
from estimator.headers import FileTensor, Header
from estimator.trace import value_of
from tests.engines.test_llamacpp_sizes import asked
from tests.headers.make import gguf as write

HERE = Path(__file__).parent
WIDE = {"f32": ("fp32", 4), "f16": ("fp16", 2)}


@cache
def records():
    return json.loads((HERE / "llamacpp_adapters.json").read_text())["records"]


def tensors(arch, stems, rank, kind):
    """The tensors of an adapter of the matrices whose names end with one of ``stems``."""
    dtype, wide = WIDE[kind]
    for name, (spot, (n_in, n_out)) in places(arch).items():
        if name.rpartition(".")[2] in stems:
            more = [next(int(value_of(x.mlp.num)) for x in arch.layers if hasattr(x.mlp, "num"))] if spot[2] else []
            for half, shape in (("lora_a", (*more, rank, n_in)), ("lora_b", (*more, n_out, rank))):
                n = prod(shape)
                yield FileTensor(f"{name}.weight.{half}", dtype, shape, n, wide * n)


def metadata(name):
    return {"general.architecture": name, "general.type": "adapter", "adapter.type": "lora"}


@pytest.mark.whole
@pytest.mark.parametrize("record", records(), ids=lambda x: x["context"])
def test_adapters_take_what_llama_cpp_allocates(record):
    arch, made = asked(record["context"])
    known = gguf_of(arch)
    loras = tuple(
        read(arch, known, Header("a.gguf", "gguf", tuple(tensors(arch, *some)), metadata(known.name)))
        for some in record["adapters"]
    )
    graph = micro_batch(arch, known, made, loras).graph
    assert {
        "adapter_bytes": sum(aligned(n, 0) for lora in loras for pair in lora.pairs.values() for n in (pair.a, pair.b)),
        "compute_bytes": compute_bytes(graph.inputs, graph.nodes)[0],
    } == record["want"]


def saved(folder, **more):
    own = {"peft_type": "LORA", "r": 16, "target_modules": ["q_proj", "down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(own | more))
    return str(folder)


def file(path, arch, stems, name):
    found = {t.name: (0, t.shape, t.bytes) for t in tensors(arch, stems, 16, "f32")}
    write(path, metadata(name), found)
    return str(path)


def test_a_folder_and_its_file_are_the_same(tmp_path):
    from estimator.models import load_model

    arch = load_model("qwen3-0.6b").architecture
    made = file(tmp_path / "a.gguf", arch, ("attn_q", "ffn_down"), "qwen3")
    both = [
        api.memory("qwen3-0.6b", quantization="q4_k_m", gpu="rtx-4090", lora=x).results()
        for x in (saved(tmp_path), made)
    ]
    assert both[0] == both[1]
    alone = api.memory("qwen3-0.6b", quantization="q4_k_m", gpu="rtx-4090").results()
    assert both[0]["lora_bytes"] == 28 * 16 * 4 * (1024 + 2048 + 3072 + 1024)
    assert both[0]["device_bytes"] - alone["device_bytes"] >= both[0]["lora_bytes"]
    twice = api.memory("qwen3-0.6b", quantization="q4_k_m", gpu="rtx-4090", lora=f"{made},{made}").results()
    assert twice["lora_bytes"] == 2 * both[0]["lora_bytes"]


def test_an_adapter_takes_time(tmp_path):
    given = {"quantization": "q4_k_m", "gpu": "rtx-4090"}
    alone = api.infer("qwen3-0.6b", **given).results()["decode_step_seconds"]
    assert api.infer("qwen3-0.6b", lora=saved(tmp_path), **given).results()["decode_step_seconds"] > alone


def test_what_llama_cpp_does_not_multiply_by_is_said(tmp_path):
    folder = saved(tmp_path, target_modules=["q_proj"])
    said = api.memory("deepseek-v2-lite", quantization="q4_k_m", gpu="h200-sxm", lora=folder).assumptions
    assert any("keeps the pair of model.layers.{i}.self_attn.q_proj, and does not multiply" in x for x in said)


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        ("qwen3-0.6b", {"use_dora": True}, "pairs of matrices alone, and this has use_dora"),
        ("qwen3-0.6b", {"modules_to_save": ["lm_head"]}, "pairs of matrices alone"),
        ("qwen3-0.6b", {"peft_type": "IA3", "feedforward_modules": []}, "is ia3; llama.cpp takes LoRA alone"),
        ("glm-4-9b", {}, "holds matrices otherwise than the checkpoint"),
        ("deepseek-v2-lite", {"target_modules": ["kv_b_proj"]}, "kv_b_proj has a pair, and no product"),
    ],
)
def test_what_is_refused(tmp_path, model, more, says):
    with pytest.raises(InputError, match=says):
        api.memory(model, quantization="q4_k_m", gpu="h200-sxm", lora=saved(tmp_path, **more))


def test_a_file_of_another_model_is_refused(tmp_path):
    from estimator.models import load_model

    arch = load_model("qwen3-0.6b").architecture
    made = file(tmp_path / "a.gguf", arch, ("attn_q",), "qwen3")
    with pytest.raises(InputError, match="is an adapter of 'qwen3', and the model is 'llama'"):
        api.memory("llama-3-8b", quantization="q4_k_m", gpu="h200-sxm", lora=made)
    with pytest.raises(InputError, match=r"attn_q.weight is of another size than the model's, 4096 by 4096"):
        api.memory("qwen3-8b", quantization="q4_k_m", gpu="h200-sxm", lora=made)
    with pytest.raises(InputError, match="no such file"):
        api.memory("qwen3-8b", quantization="q4_k_m", gpu="h200-sxm", lora=str(tmp_path / "b.gguf"))
    write(tmp_path / "c.gguf", {"general.architecture": "qwen3"}, {})
    with pytest.raises(InputError, match="is no LoRA adapter"):
        api.memory("qwen3-8b", quantization="q4_k_m", gpu="h200-sxm", lora=str(tmp_path / "c.gguf"))
