"""Folders as people have them: Git LFS pointers, pickles, GGUF files beside others, classes that nothing here knows."""

from __future__ import annotations

import json

import pytest

from estimator import api
from estimator.errors import InputError
from estimator.models import load_model
from tests.headers.make import gguf, safetensors
from tests.headers.test_gguf import META, weights
from tests.sources.test_files import GOOD

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9976576152\n"
MATRIX = {"model.layers.0.mlp.up_proj.weight": ("BF16", [128, 64])}


def refuse(text, says, overrides=()):
    with pytest.raises(InputError, match=says) as caught:
        _ = load_model(str(text), overrides).architecture
    assert "\n" not in str(caught.value)


def config(folder, raw=GOOD):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def test_git_lfs_pointers_are_weights_that_are_not_here(tmp_path):
    config(tmp_path)
    (tmp_path / "model.safetensors").write_text(POINTER)
    model = load_model(str(tmp_path))
    assert model.header.missing == ("model.safetensors",)
    assert model.architecture.hidden == 64
    for i in (1, 2):
        (tmp_path / f"model-0000{i}-of-00002.safetensors").write_text(POINTER)
    (tmp_path / "model.safetensors").unlink()
    assert len(load_model(str(tmp_path)).header.missing) == 2  # without an index
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {"total_size": 1000}, "weight_map": names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert len(load_model(str(tmp_path)).header.missing) == 2
    (tmp_path / "m.gguf").write_text(POINTER)
    for name in ("model-00001-of-00002.safetensors", "m.gguf"):
        (tmp_path / "config.json").unlink(missing_ok=True)
        refuse(tmp_path / name, "is a Git LFS pointer, the file itself was not fetched")


def test_a_pickle_is_not_read_as_json(tmp_path):
    config(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    refuse(tmp_path / "pytorch_model.bin", r"only \.safetensors and \.gguf files are read; give the folder")
    assert load_model(str(tmp_path)).architecture.hidden == 64  # as the message says


def test_the_gguf_of_a_folder_is_told_from_what_lies_beside_it(tmp_path):
    gguf(tmp_path / "m-Q4_K_M.gguf", META, weights())
    for name in ("mmproj-f16.gguf", "m-mmproj-bf16.gguf", "imatrix.gguf", "m.imatrix.gguf"):
        gguf(tmp_path / name, {"general.architecture": "clip"}, {"v.x.weight": (1, (4, 4), 32)})
    model = load_model(str(tmp_path))
    assert model.name == "m-Q4_K_M"
    found = model.stored_bytes
    raw = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **dict(model.config.raw)}
    config(tmp_path, raw)
    assert load_model(str(tmp_path)).stored_bytes == found  # a config.json beside it is read, the file too
    gguf(tmp_path / "m-Q8_0.gguf", META, weights())
    assert any("holds 2 .gguf files, none of which was looked at" in n for n in load_model(str(tmp_path)).notes)


def test_what_lies_below_a_folder_is_named(tmp_path):
    (tmp_path / "UD-Q4_K_XL").mkdir()
    gguf(tmp_path / "UD-Q4_K_XL" / "m.gguf", META, weights())
    refuse(tmp_path, "below it: UD-Q4_K_XL")
    cache = tmp_path / "models--a--b" / "snapshots" / "abc"
    cache.mkdir(parents=True)
    config(cache)
    refuse(tmp_path / "models--a--b", "below it: snapshots/abc")
    assert load_model(str(cache)).architecture.hidden == 64


def test_weights_of_a_class_that_is_not_known_are_counted_from_their_file(tmp_path):
    config(tmp_path, {"model_type": "my_model", "auto_map": {"AutoModelForCausalLM": "modeling.MyForCausalLM"}})
    refuse(tmp_path, "unknown model_type 'my_model'")
    safetensors(tmp_path / "model.safetensors", MATRIX)
    for text in (tmp_path, tmp_path / "config.json", tmp_path / "model.safetensors"):
        model = load_model(str(text))
        assert any("a my_model is not known" in n and "its weights alone" in n for n in model.notes)
        assert api.memory(model).results()["params.total"] == 128 * 64
        with pytest.raises(InputError, match="of a my_model only the weights are known, from its file"):
            api.kvcache(model)
    safetensors(tmp_path / "model.safetensors", {"a.qweight": ("U8", [8, 8])})
    refuse(tmp_path, "unknown model_type 'my_model'")


def test_a_misspelt_field_is_said(tmp_path):
    path = config(tmp_path, {k: v for k, v in GOOD.items() if k != "hidden_size"} | {"hiden_size": 64})
    model = load_model(str(path))
    _ = model.architecture
    said = [n for n in model.notes if "hiden_size" in n]
    assert len(said) == 1
    assert "WARNING" in said[0]
    assert "did you mean hidden_size?" in said[0]


def test_set_names_the_spelling_that_counts():
    refuse("llama-3.1-8b", "num_layers: this config calls it num_hidden_layers", ["num_layers=16"])
    refuse("llama-3.1-8b", "n_layers: there is no such field; did you mean num_hidden_layers", ["n_layers=16"])
    assert load_model("llama-3.1-8b", ["num_hidden_layers=16"]).architecture.num_layers == 16


def held(tmp_path, monkeypatch, files):
    """A local cache with one repository, a/b, of these files."""
    root = tmp_path / "models--a--b"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("abc")
    (root / "snapshots" / "abc").mkdir(parents=True)
    for name, content in files.items():
        (root / "snapshots" / "abc" / name).write_text(json.dumps(content))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return root / "snapshots" / "abc"


def test_offline_the_cache_is_read_without_a_config_too(tmp_path, monkeypatch):
    folder = held(tmp_path, monkeypatch, {})
    refuse("hf:a/b", "not in the local cache")
    safetensors(folder / "model.safetensors", MATRIX)
    for text in ("hf:a/b", "a/b"):
        assert load_model(text).stored_elements == 128 * 64
    (folder / "model.safetensors").unlink()
    params = {"dim": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 100, "hidden_dim": 128}
    (folder / "params.json").write_text(json.dumps(params))
    assert load_model("hf:a/b").architecture.hidden == 64
    (folder / "params.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    refuse("hf:a/b", "It holds an adapter: --adapter")
    refuse("hf:meta-llama/Llama-3.1-8B-Instruct", "Give the preset llama-3.1-8b instead")
