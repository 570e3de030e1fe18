"""Folders of shards without an index, GGUF files with a config beside them, params.json, foreign classes."""

from __future__ import annotations

import json

import pytest

from estimator.errors import InputError
from estimator.headers import safetensors as reader
from estimator.models import load_model
from estimator.sources.native_mappings import config_of
from estimator.storage import model_storage
from tests.headers.make import gguf as write_gguf
from tests.headers.make import safetensors as write
from tests.headers.test_gguf import META, weights

GOOD = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_attention_heads": 4,
        "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 128}  # fmt: skip


def test_shards_without_an_index(tmp_path):
    for i in (1, 3):
        write(tmp_path / f"model-{i:05}-of-00003.safetensors", {f"{i}.weight": ("F32", [10, 10])})
    header = reader.find(tmp_path)
    assert header.bytes == 800
    assert header.missing == ("model-00002-of-00003.safetensors",)
    write(tmp_path / "model-00002-of-00003.safetensors", {"2.weight": ("F16", [10, 10])})
    assert reader.find(tmp_path).bytes == 1000
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    assert load_model(str(tmp_path)).header.bytes == 1000


def test_an_index_alone_is_one_line(tmp_path):
    index = {"metadata": {"total_size": 5}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="none of which is here"):
        load_model(str(tmp_path))
    write(tmp_path / "empty.safetensors", {})
    with pytest.raises(InputError, match="holds no tensors"):
        load_model(str(tmp_path / "empty.safetensors"))


def test_a_name_that_stands_twice_is_damage(tmp_path):
    entry = '"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'
    text = f"{{{entry}, {entry}}}".encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0")
    with pytest.raises(InputError, match="'a' stands twice"):
        load_model(str(tmp_path / "x.safetensors"))


def test_a_folder_with_one_gguf_and_a_config_beside_it(tmp_path):
    write_gguf(tmp_path / "m-Q4_K_M.gguf", META, weights())
    model = load_model(str(tmp_path))
    assert model.header.kind == "gguf"
    assert model_storage(model).bytes == model.stored_bytes
    (tmp_path / "config.json").write_text(json.dumps(GOOD | {"num_hidden_layers": 9}))
    beside = load_model(str(tmp_path / "m-Q4_K_M.gguf"))
    assert beside.architecture.num_layers == 9
    assert any("architecture from" in n and "beside m-Q4_K_M.gguf" in n for n in beside.notes)
    assert any("WARNING" in n for n in beside.notes)  # it is another model's
    (tmp_path / "config.json").unlink()
    write_gguf(tmp_path / "m-Q8_0.gguf", META, weights(8))
    with pytest.raises(InputError, match=r"holds 2 models .*name one of them"):
        load_model(str(tmp_path))


def test_a_home_that_does_not_exist():
    with pytest.raises(InputError, match="no such user"):
        load_model("~nosuch/x.json")


# params.json -> parameters: Llama 2 7B, Llama 3 8B, Mistral 7B v0.3, Mixtral 8x7B as their makers publish them
NATIVE = {
    "llama-2-7b": {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-5, "vocab_size": -1},
    "llama-3-8b": {"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256,
                   "multiple_of": 1024, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-5, "rope_theta": 500000.0},
    "mistral-7b-v0.3": {"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32,
                        "n_kv_heads": 8, "norm_eps": 1e-5, "vocab_size": 32768, "rope_theta": 1000000.0},
    "mixtral-8x7b": {"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
                     "norm_eps": 1e-5, "vocab_size": 32000, "moe": {"num_experts_per_tok": 2, "num_experts": 8}},
}  # fmt: skip


@pytest.mark.parametrize("name", NATIVE)
def test_params_json(tmp_path, name):
    (tmp_path / "params.json").write_text(json.dumps(NATIVE[name]))
    preset = sum(w.total for w in load_model(name).architecture.weights())
    for text in (tmp_path, tmp_path / "params.json"):
        assert sum(w.total for w in load_model(str(text)).architecture.weights()) == preset


@pytest.mark.parametrize(
    ("params", "says"),
    [({}, "has no dim and n_layers"), ({"dim": "x", "n_layers": 2}, "dim must be a whole number"),
     ({"dim": 64, "n_layers": 2}, "n_heads is missing"), ({"dim": 64, "n_layers": 1, "n_heads": 0}, "n_heads")],
)  # fmt: skip
def test_what_is_no_params_json(params, says):
    with pytest.raises(InputError, match=says):
        config_of(params, "params.json")


def test_foreign_classes_are_said(tmp_path):
    def notes(**more):
        (tmp_path / "config.json").write_text(json.dumps(GOOD | more))
        model = load_model(str(tmp_path))
        _ = model.architecture
        return " ".join(model.notes)

    assert notes() == ""
    assert "'LlavaLlamaForCausalLM', which is no class" in notes(architectures=["LlavaLlamaForCausalLM"])
    assert "mm_hidden_size: not read by this class" in notes(mm_hidden_size=1024)
    assert "code of the repository" in notes(architectures=["XForCausalLM"], auto_map={"AutoModel": "x.X"})
    assert notes(bos_token_id=128000, max_window_layers=28, pretraining_tp=4) == ""


@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "mixtral-8x7b", "deepseek-v3", "t5-small", "jamba-v0.1"])
def test_real_configs_are_not_foreign(tmp_path, name):
    raw = load_model(name).config.raw
    (tmp_path / "config.json").write_text(json.dumps(dict(raw)))
    model = load_model(str(tmp_path))
    _ = model.architecture
    assert not [n for n in model.notes if "WARNING" in n or "not read" in n]


@pytest.mark.parametrize(
    ("kind", "says"),
    [("lama", "Did you mean 'llama'"), ("qwen2moe", "Did you mean 'qwen2_moe'"), ("qwen99", "To add one")],
)
def test_only_a_slip_is_suggested(tmp_path, kind, says):
    (tmp_path / "config.json").write_text(json.dumps(GOOD | {"model_type": kind}))
    with pytest.raises(InputError, match=says) as caught:
        _ = load_model(str(tmp_path)).architecture
    assert ("Did you mean" in str(caught.value)) == ("Did you" in says)


@pytest.mark.parametrize(
    ("text", "said", "not_said"),
    [
        ("lama-3-8b", "Did you mean 'llama-3-8b'?", "hf:"),
        ("gtp2", "Did you mean 'gpt2'?", "hf:"),
        # another number is another model
        ("qwen2.5-70b", "List them: llmcalc models; any other: --model hf:ORG/NAME", "Did you mean"),
        ("Qwen/Qwen2-VL-2B-Instruct", "--model hf:Qwen/Qwen2-VL-2B-Instruct, or the path of its config.json", "preset"),
        ("microsoft/Phi-3.5-vision-instruct", "hf:microsoft/Phi-3.5-vision-instruct", "Did you mean"),
        ("google/gemma-5-26B-A4B-it", "hf:google/gemma-5-26B-A4B-it", "Did you mean"),
        ("someone/Qwen2.5-0.5B-Instruct", "Its base may be the preset 'qwen2.5-0.5b'", "Did you mean"),
        ("Qwen/Qwen3-14B-AWQ", "the preset 'qwen3-14b': --model qwen3-14b --quantization awq", "Did you mean"),
        ("someone/Llama-3-8B", "There is a preset 'llama-3-8b'", "Did you mean"),
    ],
)
def test_only_likely_typing_errors_are_suggested(text, said, not_said):
    with pytest.raises(InputError) as caught:
        load_model(text)
    assert said in str(caught.value)
    assert not_said not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "swoosh"}, "hidden_act 'swoosh' is no activation of transformers"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling_x.OtherForCausalLM"}}, "auto_map names 'OtherForCausalLM'"),
    ],
)
def test_what_the_class_does_not_say_is_said(tmp_path, changes, said):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GOOD))
    assert not [n for n in load_model(str(path)).notes if "WARNING" in n and "dtype" not in n]
    path.write_text(json.dumps(GOOD | changes))
    assert any(said in n for n in load_model(str(path)).notes)
