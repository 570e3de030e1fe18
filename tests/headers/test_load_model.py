"""What ``--model`` takes and what it refuses: always one line, never a wait."""

from __future__ import annotations

import json
import os

import pytest

from estimator.errors import InputError
from estimator.models import load_model
from estimator.sources.found import MAX_CONFIG_BYTES
from estimator.trace import Traced

GOOD = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}


def refuse(text, says, overrides=()):
    with pytest.raises(InputError, match=says) as caught:
        _ = load_model(str(text), overrides).architecture
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_preset_file_and_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    for text in (tmp_path, tmp_path / "config.json"):
        model = load_model(str(text))
        assert (model.kind, model.name) == ("file", tmp_path.name)
        assert model.architecture.hidden == 64
    assert load_model("llama-3-8b").kind == "preset"


def test_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "tiny.json").write_text(json.dumps(GOOD))
    monkeypatch.chdir(tmp_path)
    assert load_model("tiny.json").name == "tiny"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"hello", "not valid JSON"),
        (b"[1, 2]", "must be a JSON object, got a list"),
        (b'"llama"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"hidden_size": ' + b"1" * 10_000 + b"}", "integer"),
        (b"{}", "model_type"),
        (b'{"model_type": 7}', "model_type must be a string"),
        (b'{"model_type": "nonesuch"}', "unknown model_type 'nonesuch'"),
    ],
)
def test_bad_files(tmp_path, content, says):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    refuse(path, says)


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, "4096", None, True, [], {}, float("nan"), float("inf"), 10**400, -(10**400), 10**13, 1e300]
)
def test_bad_sizes(tmp_path, value):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GOOD | {"num_hidden_layers": value, "hidden_size": value}))
    if value is None:  # null is how some configs leave a field out
        assert load_model(str(path)).architecture.hidden > 0
    else:
        refuse(path, "hidden_size|num_hidden_layers")


def test_200_mb_of_json_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    refuse(path, "200,000,000 bytes are too many")
    assert MAX_CONFIG_BYTES < 200_000_000


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    refuse(tmp_path / "config.json", "not a regular file")
    refuse(tmp_path, "not a regular file")
    os.mkfifo(tmp_path / "a.gguf")
    refuse(tmp_path / "a.gguf", "not a regular file")
    refuse("/dev/zero", "not a regular file")


def test_missing_files_and_folders(tmp_path):
    refuse(tmp_path / "no" / "config.json", "no such file")
    refuse(tmp_path / "no.safetensors", "no such file")
    refuse(tmp_path, "neither a config.json nor")
    (tmp_path / "config.json").symlink_to(tmp_path / "gone")
    refuse(tmp_path / "config.json", "a link to a file that does not exist")
    refuse(tmp_path, "a link to a file that does not exist")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    refuse(tmp_path / "loop.json", "loop.json")
    refuse(tmp_path / ("x" * 300 + ".json"), "name too long|no such file")


@pytest.mark.parametrize("text", ["llama-3-8x", "llama 99b", "no/such-model", "a\0b", "x" * 10_000, "..", "🙂", "-"])
def test_unknown_names(text):
    refuse(text, "unknown model|neither a config.json")


def test_empty_name():
    refuse("", "empty")
    refuse("   ", "empty")


def test_hub_name_without_prefix_is_pointed_to_the_hub():
    assert "hf:someone/some-model" in refuse("someone/some-model", "unknown model")


def test_set_fields(tmp_path):
    model = load_model("gpt2", ["n_layer=3", "activation_function=relu"])
    assert model.architecture.num_layers == 3
    assert model.expect == {}
    nested = load_model("gemma-3-4b-multimodal", ["text_config.num_hidden_layers=6"])
    assert nested.config.raw["text_config"]["num_hidden_layers"] == 6
    assert load_model("gemma-3-4b-multimodal").config.raw["text_config"]["num_hidden_layers"] != 6
    assert load_model("llama-3-8b", ['rope_scaling={"factor": 8}']).config.raw["rope_scaling"] == {"factor": 8}


def test_a_mistyped_field_is_an_error():
    refuse("llama-3-8b", "did you mean num_hidden_layers", ["num_hiden_layers=3"])
    refuse("gemma-3-4b-multimodal", "did you mean num_hidden_layers", ["text_config.num_hiden_layers=3"])
    assert load_model("llama-3-8b", ["num_hidden_layers=3"]).notes == ()
    assert load_model("llama-3-8b", ["attention_bias=true"]).notes == ()  # not in the config, but the class reads it
    assert any("reads none of this name" in n for n in load_model("llama-3-8b", ["zebra=3"]).notes)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("num_hidden_layers", "FIELD=VALUE|NAME=VALUE"),
        ("=3", "NAME=VALUE"),
        ("num_hidden_layers=", "num_hidden_layers"),
        ("num_hidden_layers=0", "num_hidden_layers"),
        ("num_hidden_layers=-4", "num_hidden_layers"),
        ("num_hidden_layers=NaN", "num_hidden_layers"),
        ("num_hidden_layers=Infinity", "num_hidden_layers"),
        ("num_hidden_layers=1e400", "num_hidden_layers"),
        ("num_hidden_layers=" + "9" * 400, "num_hidden_layers"),
        ("num_hidden_layers=" + "9" * 5000, "num_hidden_layers"),
        ("num_hidden_layers=" + "[" * 9000, "num_hidden_layers"),
        ("num_hidden_layers=" + "9" * 20000, "too long"),
        ("num_key_value_heads=5", "multiple"),
        ("hidden_size.x=5", "not a group"),
        ("model_type=nope", "model_type"),
    ],
)
def test_bad_overrides(override, says):
    refuse("llama-3-8b", says, [override])


def test_symbolic():
    model = load_model("symbolic")
    assert model.kind == "symbolic"
    total = sum(w.total for w in model.architecture.weights())
    assert isinstance(total, Traced)
    assert str(total.expr) == "12*L*d**2"
    assert load_model("symbolic", ["intermediate_size=100"]).architecture.layers[0].mlp.width == 100
