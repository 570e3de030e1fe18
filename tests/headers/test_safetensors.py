"""Safetensors headers: exact counts, comparison with the config, and every kind of damage."""

from __future__ import annotations

import json
import struct

import pytest

from estimator.errors import InputError
from estimator.headers import safetensors
from estimator.models import load_model
from tests.headers.make import safetensors as write

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "tie_word_embeddings": True,
}  # fmt: skip


def weights(config=CONFIG):
    """The tensors of that Llama, as its checkpoint names them."""
    d, f, kv = 64, 128, 32
    out = {"model.embed_tokens.weight": ("BF16", (config["vocab_size"], d)), "model.norm.weight": ("BF16", (d,))}
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out |= {
            p + f"self_attn.{n}_proj.weight": ("BF16", s)
            for n, s in (("q", (d, d)), ("k", (kv, d)), ("v", (kv, d)), ("o", (d, d)))
        }
        out |= {
            p + f"mlp.{n}_proj.weight": ("BF16", s) for n, s in (("gate", (f, d)), ("up", (f, d)), ("down", (d, f)))
        }
        out |= {p + n + ".weight": ("BF16", (d,)) for n in ("input_layernorm", "post_attention_layernorm")}
    return out


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_agrees_with_the_config(folder):
    size = write(folder / "model.safetensors", weights())
    model = load_model(str(folder))
    assert model.stored_bytes == size
    assert model.stored_elements == sum(w.total for w in model.architecture.weights()) == size // 2
    assert model.notes == ()
    assert load_model(str(folder / "model.safetensors")).stored_bytes == size


def test_mixed_dtypes(tmp_path):
    write(
        tmp_path / "a.safetensors",
        {"a": ("F32", (3, 5)), "b": ("F8_E4M3", (7,)), "c": ("F4", (4, 8)), "d": ("I64", ())},
    )
    header = safetensors.read_file(tmp_path / "a.safetensors")
    assert header.by_dtype() == {"F32": (15, 60), "F4": (32, 16), "I64": (1, 8), "F8_E4M3": (7, 7)}
    model = load_model(str(tmp_path / "a.safetensors"))
    assert model.stored_bytes == 91
    assert any("the architecture is not" in note for note in model.notes)
    with pytest.raises(InputError, match=r"config\.json beside it"):
        _ = model.architecture


def test_a_tied_head_stored_twice_is_said(folder):
    write(folder / "model.safetensors", weights() | {"lm_head.weight": ("BF16", (100, 64))})
    (note,) = load_model(str(folder)).notes
    assert note.startswith("WARNING")
    assert "(+6,400)" in note
    assert "tied lm_head.weight is stored a second time" in note


def test_buffers_are_named(folder):
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": ("F32", (8,)) for i in range(2)}
    write(folder / "model.safetensors", weights() | buffers)
    (note,) = load_model(str(folder)).notes
    assert "model.layers.{i}.self_attn.rotary_emb.inv_freq are not parameters" in note


def test_another_config_is_said(folder):
    write(folder / "model.safetensors", weights())
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 3}))
    (note,) = load_model(str(folder)).notes
    assert note.startswith("WARNING")


def test_packed_weights_are_not_compared(folder):
    write(folder / "model.safetensors", {"model.layers.0.q_proj.weight": ("U8", (2048, 1))})
    assert "packed codes are not compared" in load_model(str(folder)).notes[0]


def shards(folder, drop=()):
    parts = list(weights().items())
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    sizes = [write(folder / n, dict(p)) for n, p in zip(names, (parts[:5], parts[5:]), strict=True)]
    mapping = {k: names[i >= 5] for i, (k, _) in enumerate(parts)}
    (folder / safetensors.INDEX).write_text(json.dumps({"metadata": {"total_size": sum(sizes)}, "weight_map": mapping}))
    for i in drop:
        (folder / names[i]).unlink()
    return sum(sizes)


def test_sharded_index(folder):
    size = shards(folder)
    model = load_model(str(folder / safetensors.INDEX))
    assert model.stored_bytes == load_model(str(folder)).stored_bytes == size
    assert all("WARNING" not in note for note in model.notes)


def test_missing_shard(folder):
    size = shards(folder, drop=[1])
    model = load_model(str(folder))
    assert model.stored_bytes == size
    assert model.stored_elements is None
    assert "1 of its shards is not here" in model.notes[0]


HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def damaged(entry=None, length=None, room=8, raw=None):
    raw = json.dumps(entry if entry is not None else HEADER).encode() if raw is None else raw
    return struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(room)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too few"),
        (b"1234567", "too few"),
        (struct.pack("<Q", 2**60), "claims a header of 1,152,921,504,606,846,976 bytes"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "claims a header"),
        (damaged(length=10_000), "claims a header"),
        (damaged(room=4), "claims 8 bytes of weights, but holds 4"),
        (damaged({"a": {"dtype": "F32", "shape": [2**58], "data_offsets": [0, 2**60]}}), "claims 1,152,921,504,606"),
        (damaged({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}), "its offsets span 8"),
        (damaged({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}), "unknown dtype"),
        (damaged({"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}), "unknown dtype"),
        (damaged({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}), "whole numbers"),
        (damaged({"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}), "whole numbers"),
        (damaged({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}), "whole numbers"),
        (damaged({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}), "offsets span"),
        (damaged({"a": {"dtype": "F32", "shape": [2]}}), "data_offsets"),
        (damaged({"a": 7}), "must be an object"),
        (damaged({"a": HEADER["a"], "b": HEADER["a"]}), "overlap"),
        (damaged({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}), "gap"),
        (damaged([1]), "JSON object"),
        (damaged(raw=b"\xff\xfe{}"), "UTF-8"),
        (damaged(raw=b"{"), "not valid JSON"),
        (damaged(raw=b'{"a":' + b"[" * 100_000), "nested too deeply"),
        (damaged(raw=b'{"a":' + b"9" * 5000 + b"}"), "integer"),
    ],
)  # fmt: skip
def test_damage_is_one_line(tmp_path, content, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({}, "weight_map"),
        ({"weight_map": {}}, "weight_map"),
        ({"weight_map": {"a": 1}}, "weight_map"),
        ({"weight_map": {"a": "../secret.safetensors"}}, "plain file names"),
        ({"weight_map": {"a": "/etc/passwd"}}, "plain file names"),
    ],
)
def test_bad_index(tmp_path, index, says):
    (tmp_path / safetensors.INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=says):
        load_model(str(tmp_path / safetensors.INDEX))
