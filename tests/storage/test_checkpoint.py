"""Storage as the files say it: exact bytes of 55 checkpoints, and what is said where a file cannot be read so."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from estimator import api
from estimator.config import Config
from estimator.errors import InputError
from estimator.models import Model, load_model
from estimator.storage import model_storage, stored_weights
from estimator.storage.products import multiplied_in

CASES = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "storage_cases.json.gz").read_bytes()))
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 704, "vocab_size": 4000,
    "tie_word_embeddings": False,
}  # fmt: skip


def put(folder: Path, files: dict[str, object]) -> str:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return str(folder / "config.json")


def of(quantization: dict[str, object] | None, **more: object) -> Model:
    raw = {**LLAMA, **more} | ({"quantization_config": quantization} if quantization is not None else {})
    return Model("x", "file", Config(raw))


def formats(model: Model) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for p in model_storage(model).parts:
        out.setdefault(p.weight.name.split(".")[-2], set()).add(p.format)
    return out


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_bytes(case, tmp_path):
    model = load_model(put(tmp_path, case["files"]))
    assert model_storage(model).bytes == case["weights_bytes"]
    found = api.memory(model, mode="inference", seq_len=16).results()
    assert found["weights_bytes"] == case["weights_bytes"]


def test_none_overrides(tmp_path):
    case = next(c for c in CASES if c["id"] == "llama-3-8b/awq-g128")
    model = load_model(put(tmp_path, case["files"]))
    plain = api.memory(model, mode="inference", seq_len=16, quantization="none").results()
    assert plain["weights_bytes"] == 2 * plain["params.total"]
    served = api.infer(model, gpu="h100-sxm", seq_len=512, new_tokens=64).results()
    assert served["weights_bytes"] == case["weights_bytes"]
    held = api.kvcache(model, gpu="h100-sxm", seq_len=512)
    assert "awq-4bit-g128" in str(held.body)


def test_float32_in_the_config(tmp_path):
    path = put(tmp_path, {"config.json": LLAMA | {"dtype": "float32"}})
    assert api.memory(load_model(path), mode="inference").results()["weights_bytes"] == 19_997_696


def test_what_is_not_known_is_loud(tmp_path):
    path = put(tmp_path, {"config.json": LLAMA | {"quantization_config": {"quant_method": "vptq"}}})
    model = load_model(path)
    assert any("WARNING" in n and "'vptq' is not known" in n and "--quantization" in n for n in model.notes)
    index = {"metadata": {"total_size": 3_000_000}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    put(tmp_path, {"model.safetensors.index.json": index})
    assert model_storage(load_model(path)).bytes == 3_000_000
    assert any("dtype 'int3'" in n for n in load_model(path, ["dtype=int3"]).notes)


def test_the_index_is_a_check(tmp_path):
    index = {"metadata": {"total_size": 10_000_000}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    path = put(tmp_path, {"config.json": LLAMA | {"dtype": "bfloat16"}, "model.safetensors.index.json": index})
    made = model_storage(load_model(path))
    assert made.bytes == 19_997_696 // 2
    assert any("totals 10,000,000 bytes of weights, the config gives 9,998,848 (+1,152)" in n for n in made.notes)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quant_method": "gptq", "bits": "four"}, "bits must be a whole number"),
        ({"quant_method": "gptq", "bits": 40}, "bits must be a whole number"),
        ({"quant_method": "awq", "group_size": 1.5}, "group_size"),
        ({"quant_method": 7}, "quant_method must be a string"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "must be a list of names"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": "yes"}, "load_in_4bit must be true or false"),
        ({"quant_method": "compressed-tensors", "config_groups": []}, "config_groups must be a group of fields"),
        ({"quant_method": "hqq", "quant_config": 4}, "quant_config must be a group"),
    ],
)
def test_fields_of_the_wrong_type(config, says, tmp_path):
    path = put(tmp_path, {"config.json": LLAMA | {"quantization_config": config}})
    with pytest.raises(InputError, match=says) as caught:
        load_model(path)
    assert "config.json" in str(caught.value)


def test_presets_carry_their_checkpoints_storage():
    assert model_storage(load_model("gpt-oss-20b")).bytes == 13_761_264_768
    assert load_model("deepseek-v3").declared.scheme.name == "fp8-block"
    assert api.memory("gpt-oss-20b", mode="training", seq_len=64).results()["weights_bytes"] > 40e9
    assert any("unpacked to train it" in a for a in api.memory("gpt-oss-20b", mode="training", seq_len=64).assumptions)
    rtx = api.memory("gpt-oss-20b", mode="inference", seq_len=2048, gpu="rtx-4090").results()
    assert rtx["fits"] == "yes"


def test_t5_keeps_wo_and_falcon_its_own_class():
    t5 = formats(Model("x", "file", Config(load_model("flan-t5-small").config.raw | {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}, "dtype": "float16"})))
    assert t5["wo"] == {"fp32"}  # transformers 5.24: _keep_in_fp32_modules where it loads fp16
    assert t5["wi_0"] == {"fp4"}
    made = stored_weights(load_model("falcon-7b").architecture, "nf4")
    assert set(made.by_format()) == {"bf16"}
    assert any("FalconLinear, which transformers 5.24 does not convert" in n for n in made.notes)
    assert "gptq" in stored_weights(load_model("falcon-7b").architecture, "gptq").by_format()


def test_qlora_of_t5():
    found = api.memory("flan-t5-xxl", mode="training", method="qlora", seq_len=512).results()
    assert found["weights_bytes"] == 9_123_685_888


def test_lists_of_what_stays():
    # a list replaces the default: the output layer is quantised unless it is named
    skip = {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_skip_modules": ["q_proj"]}
    assert formats(of(skip))["q_proj"] == {"bf16"}
    assert formats(of(skip))["lm_head"] == {"int8"}
    layers = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "model.layers.1", r"model.layers.\d.mlp"]}
    assert formats(of(layers))["q_proj"] == {"fp8", "bf16"}
    assert formats(of(layers))["down_proj"] == {"bf16"}
    rules = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {
        r"-:.*\.v_proj": {}, r"+:.*\.o_proj": {"bits": 8, "group_size": 64}}}  # fmt: skip
    found = formats(of(rules))
    assert (found["v_proj"], found["o_proj"]) == ({"bf16"}, {"gptq-8bit-g64"})
    groups = {"quant_method": "compressed-tensors", "ignore": ["re:.*lm_head"], "format": "mixed-precision",
              "config_groups": {
                  "a": {"targets": [r"re:.*(gate|up|down)_proj$"], "weights": {"num_bits": 4, "type": "int",
                        "strategy": "group", "group_size": 32}, "format": "pack-quantized"},
                  "b": {"targets": [r"re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float",
                        "strategy": "channel"}, "format": "float-quantized"}}}  # fmt: skip
    found = formats(of(groups))
    assert (found["up_proj"], found["k_proj"], found["lm_head"]) == ({"int4"}, {"fp8"}, {"bf16"})


def test_a_strangers_pattern_does_not_hang():
    started = time.monotonic()
    for pattern in ("(([a-z._0-9]+)+)+!", "(a|aa)+$", "(.*.*)*x", "[" * 400, "re:(.+)+!"):
        model_storage(of({"quant_method": "fp8", "modules_to_not_convert": [pattern, "lm_head"]}))
        groups = {"g": {"targets": [f"re:{pattern}"], "weights": {"num_bits": 8, "type": "float"}}}
        model_storage(of({"quant_method": "compressed-tensors", "config_groups": groups}))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("name", "n_in", "n_out", "bytes_"),
    [
        ("gptq-3bit-g128", 4096, 4096, 4 * 384 * 4096 + 4 * 32 * 384 + 2 * 32 * 4096 + 4 * 4096),
        ("awq-g64", 4096, 4096, 4 * 4096 * 512 + 4 * 64 * 512 + 2 * 64 * 4096),
        ("mlx-4bit-g64", 4096, 4096, 4096 * 2048 + 4 * 64 * 4096),
        ("MLX_8bit_g32", 4096, 4096, 4096 * 4096 + 4 * 128 * 4096),
        ("gptq-4bit-channel", 4096, 4096, 4 * 512 * 4096 + 4 * 512 + 2 * 4096 + 4 * 4096),
        ("hqq-3bit-g64", 1024, 512, 4 * 820 * 64 + 4 * 8192),
        ("w8a8", 4096, 1024, 4096 * 1024 + 2 * 1024),
    ],
)
def test_schemes_with_parameters(name, n_in, n_out, bytes_):
    from estimator.storage.named import named_scheme

    scheme = named_scheme(name.lower().replace("_", "-"))
    assert scheme.layout.size(n_in, n_out) == bytes_
    assert stored_weights(load_model("llama-3.2-1b").architecture, name).scheme == scheme.name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gptq-5bit", "GPTQ has 2, 3, 4, 8 bits, got 5"),
        ("awq-g0", "a group is 1 or more"),
        ("gptq-4bit-gx", "none of Nbit"),
        ("gptqq-4bit", "unknown --quantization"),
    ],
)
def test_parameters_that_a_scheme_lacks(name, says):
    with pytest.raises(InputError, match=says):
        stored_weights(load_model("gpt2").architecture, name)


def test_what_products_run_in():
    fp8 = next(p for p in model_storage(of({"quant_method": "fp8"})).parts if p.layout is not None)
    assert [multiplied_in(fp8.layout.products, g) for g in ("Ampere", "Ada", "Hopper", "Blackwell Ultra")] == [
        "bf16", "fp8", "fp8", "fp8",
    ]  # fmt: skip
    assert multiplied_in("nvfp4", "Hopper", "fp16") == "fp16"
    assert multiplied_in("nvfp4", "Blackwell") == "fp4"
    assert multiplied_in("weight-only", "Blackwell") == "bf16"
    assert multiplied_in("int8", "Ampere") == "int8"


MODULES = json.loads((Path(__file__).parents[1] / "data" / "quantised_modules.json").read_text())["linear_elements"]
ROUTER = {"phi-3.5-moe": 32 * 16 * 4096}  # its router is a subclass of Linear, which AWQ's checkpoints leave alone


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("method", "config"),
    [("bitsandbytes", {"quant_method": "bitsandbytes", "load_in_8bit": True}), ("awq", {"quant_method": "awq"})],
)
def test_the_modules_that_transformers_quantises(name, method, config):
    raw = load_model(name).config.raw.copied() | {"quantization_config": config}
    parts = model_storage(Model(name, "file", Config(raw))).parts
    found = sum(p.weight.total for p in parts if p.layout is not None and p.weight.role != "expert")
    assert found + (ROUTER.get(name, 0) if method == "awq" else 0) == MODULES[name][method]


def test_deepseek_v4_says_the_width_of_its_experts_apart():
    """FP8Experts of transformers 5.24: half a byte a weight, a byte for each 32; the rest fp8 with scales of a byte."""
    sizes = {"hidden_size": 256, "moe_intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "head_dim": 64, "q_lora_rank": 128, "o_groups": 2, "o_lora_rank": 64, "vocab_size": 512,
             "n_routed_experts": 8, "num_experts_per_tok": 2, "compress_ratios": [0, 0]}  # fmt: skip
    fp8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"}
    raw = {"model_type": "deepseek_v4", **sizes, "quantization_config": fp8}
    found = [model_storage(Model("x", "file", Config(c))) for c in (raw, {**raw, "expert_dtype": "fp4"})]
    experts = 2 * 8 * 3 * 256 * 128
    assert found[0].bytes - found[1].bytes == experts + experts // (128 * 128) - experts // 2 - experts // 32
