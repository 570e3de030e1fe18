"""Methods whose classes stand in place of torch.nn.Linear, and fields that were once read as another method's.

The bytes of EETQ, BitNet, HIGGS and AQLM are those of transformers 5.24's and aqlm 1.1.7's own modules on the meta
device (``EetqLinear``, ``BitLinear``, ``HiggsLinear``, ``QuantizedLinear`` for every linear layer but the head).
"""

from __future__ import annotations

import pytest

from estimator import api
from estimator.errors import InputError
from estimator.models import load_model
from estimator.storage import model_storage
from tests.storage.test_checkpoint import LLAMA, formats, of, put

PLAIN = 9_998_848  # bytes of LLAMA in bf16
LLAMA_3 = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip
QWEN = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "tie_word_embeddings": True,
}  # fmt: skip
EETQ = {"quant_method": "eetq", "weights": "int8"}
BITNET = {"quant_method": "bitnet", "linear_class": "bitlinear"}
HIGGS = {"quant_method": "higgs", "bits": 4, "p": 2, "group_size": 256, "hadamard_size": 1024}
AQLM = {"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 1, "nbits_per_codebook": 16,
        "linear_weights_not_to_quantize": ["lm_head.weight", "model.embed_tokens.weight"]}  # fmt: skip
TWICE = AQLM | {"num_codebooks": 2, "nbits_per_codebook": 8}


@pytest.mark.parametrize(
    ("quantization", "more", "expected"),
    [
        (EETQ, {}, 7_069_184), (EETQ, LLAMA_3, 9_083_953_152), (EETQ, QWEN, 630_847_232),
        (BITNET, {}, 4_837_944), (BITNET, LLAMA_3, 3_846_709_696), (BITNET, QWEN, 361_869_392),
        (HIGGS, LLAMA_3, 5_646_302_208),
        (AQLM, {}, 34_217_472), (AQLM, LLAMA_3, 4_084_342_784), (AQLM, QWEN, 538_638_080),
        (TWICE, {}, 5_086_720), (TWICE, LLAMA_3, 3_851_296_768), (TWICE, QWEN, 363_853_568),
    ],
)  # fmt: skip
def test_bytes(quantization, more, expected):
    assert model_storage(of(quantization, **more)).bytes == expected


def test_what_is_unpacked_when_it_is_loaded_stays_plain():
    made = model_storage(of({"quant_method": "bitnet", "linear_class": "autobitlinear"}))
    assert made.bytes == PLAIN
    assert any("unpacks the ternary weights" in n for n in made.notes)


MLX = {
    "group_size": 64, "bits": 4, "model.embed_tokens": {"group_size": 64, "bits": 6}, "lm_head": False,
    "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8},
}  # fmt: skip


BOTH = ("quantization", "quantization_config")


@pytest.mark.parametrize("names", [BOTH[:1], BOTH, BOTH[1:]])
def test_mlx_with_modules_of_their_own_is_not_taken_for_gptq(names, tmp_path):
    model = load_model(put(tmp_path, {"config.json": LLAMA | dict.fromkeys(names, MLX)}))
    found = formats(model)
    assert found["embed_tokens"] == {"mlx-6bit-g64"}
    assert found["down_proj"] == {"mlx-8bit-g32", "mlx-4bit-g64"}
    assert found["lm_head"] == {"bf16"}
    layers = 3 * 704 * 256 + 2 * 256 * 256 + 2 * 128 * 256  # weights of a layer's matrices
    down = 704 * 256
    expected = 4000 * 256 * (13 / 16 + 2) + (4 * layers - down) * 9 / 16 + down * 9 / 8 + 9 * 256 * 2
    assert model_storage(model).bytes == expected


def test_mlx_leaves_what_sees():
    """mlx-vlm's convert.py quantises no module of a vision tower nor of its projector."""
    model = load_model("gemma-3-4b-multimodal")
    sees = [w for w in model.architecture.weights() if "vision" in w.name or "multi_modal_projector" in w.name]
    for made in (model_storage(model, "mlx-4bit-g64"), model_storage(load_model(model.name, [f"quantization={TEXT}"]))):
        parts = [p for p in made.parts if p.weight.name in {w.name for w in sees}]
        assert {p.format for p in parts} == {"bf16"}
        assert sum(p.bytes for p in parts) == 2 * sum(w.total for w in sees)
        assert "mlx-4bit-g64" in made.by_format()


TEXT = '{"bits":4,"group_size":64}'
ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 32, "packing_format": "auto_round:llm_compressor"}


@pytest.mark.parametrize(
    ("more", "name", "weight"),
    [
        ({"data_type": "mx_fp", "act_bits": 4}, "mxfp4", 17 / 32),
        ({"data_type": "mx_fp", "bits": 8, "act_bits": 8}, "mxfp8", 33 / 32),
        ({"data_type": "nv_fp", "group_size": 16, "act_bits": 16}, "nvfp4", 9 / 16),
        ({"data_type": "fp", "bits": 8, "group_size": 0}, "fp8", 1),
    ],
)
def test_floats_of_auto_round_are_not_counted_as_integers(more, name, weight):
    made = model_storage(of(ROUND | more))
    parts = [p for p in made.parts if p.weight.name.endswith("q_proj.weight")]
    extra = {"nvfp4": 4, "fp8": 2}.get(name, 0)
    assert {p.format for p in parts} == {name}
    assert sum(p.bytes for p in parts) == 4 * (256 * 256 * weight + extra)


def test_auto_round_quantises_the_output_layer_that_it_names():
    kept = model_storage(of({"quant_method": "auto-round", "bits": 4, "group_size": 128}))
    named = of({"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": {"lm_head": {"bits": 8}}})
    assert formats(named)["lm_head"] == {"gptq-8bit-g128"}
    assert model_storage(named).bytes < kept.bytes


CACHE = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}


def test_a_quantised_cache_alone_leaves_the_weights(tmp_path):
    tensors = {"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": CACHE}
    made = model_storage(of(tensors))
    assert made.bytes == PLAIN + 4 * 2 * 2  # two scales a layer, in 16 bits
    assert not any("WARNING" in n for n in made.notes)
    quant = {"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}
    model = load_model(put(tmp_path, {"config.json": LLAMA, "hf_quant_config.json": quant}))
    assert model_storage(model).bytes == PLAIN + 4 * 2 * 4
    assert not any("WARNING" in n for n in model.notes)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "int4"}, "must be fp4 or nf4"),
        ({"quant_method": "fp8", "weight_block_size": "128x128"}, r"weight_block_size must be \[rows, columns\]"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, r"weight_block_size must be \[rows, columns\]"),
        ({"quant_method": "bitnet", "linear_class": "mylinear"}, "linear_class must be bitlinear or autobitlinear"),
    ],
)
def test_what_would_be_another_answer_is_refused(config, says):
    with pytest.raises(InputError, match=says):
        _ = of(config).declared


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "version 'gemv': counted in the GEMM layout"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "checkpoint_format 'marlin'"),
        ({"quant_method": "quark", "global_quant_config": {"weight": [{"dtype": "int4"}]}}, "layout that is not known"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24", "config_groups": {"a": {
            "targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128},
        }}}, "layout that is not known"),
    ],
)  # fmt: skip
def test_what_is_counted_otherwise_is_said_loudly_and_once(config, says, tmp_path):
    model = load_model(put(tmp_path, {"config.json": LLAMA | {"quantization_config": config}}))
    loud = [n for n in model.notes if "WARNING" in n]
    assert len(loud) == 1
    assert says in loud[0]
    assumed = api.memory(model, mode="inference", seq_len=16).assumptions
    assert sum(says in a for a in assumed) == 1
