"""GGUF headers: exact bytes by type, the config they imply, and every kind of damage."""

from __future__ import annotations

import contextlib
import json
import struct

import pytest

from estimator.dtypes import FORMATS, GGML_TYPES
from estimator.errors import InputError
from estimator.headers import gguf
from estimator.models import load_model
from tests.headers.make import gguf as write
from tests.headers.make import pair, string

META = {
    "general.architecture": "llama", "llama.embedding_length": 256, "llama.block_count": 2,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.context_length": 2048,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.tokens": [f"t{i}" for i in range(2000)],
    "tokenizer.ggml.token_type": [1] * 2000,
}  # fmt: skip


def weights(kind=12):
    """A Llama's tensors with matrices of one ggml type (default Q4_K) and fp32 norms."""
    d, f, kv, vocab = 256, 512, 128, 2000
    size = FORMATS[GGML_TYPES[kind]].bytes

    def matrix(n_out, n_in):
        return (kind, (n_out, n_in), n_out * size(n_in))

    out = {
        "token_embd.weight": matrix(vocab, d),
        "output_norm.weight": (0, (d,), 4 * d),
        "output.weight": matrix(vocab, d),
    }
    for i in range(2):
        p = f"blk.{i}."
        out |= {
            p + "attn_q.weight": matrix(d, d),
            p + "attn_k.weight": matrix(kv, d),
            p + "attn_v.weight": matrix(kv, d),
        }
        out |= {
            p + "attn_output.weight": matrix(d, d),
            p + "ffn_gate.weight": matrix(f, d),
            p + "ffn_up.weight": matrix(f, d),
        }
        out |= {
            p + "ffn_down.weight": matrix(d, f),
            p + "attn_norm.weight": (0, (d,), 4 * d),
            p + "ffn_norm.weight": (0, (d,), 4 * d),
        }
    return out


@pytest.mark.parametrize("kind", [0, 1, 2, 8, 10, 12, 14, 20, 30, 39])
def test_bytes_and_config(tmp_path, kind):
    tensors = weights(kind)
    write(tmp_path / "m.gguf", META, tensors)
    model = load_model(str(tmp_path / "m.gguf"))
    assert model.stored_bytes == sum(size for _, _, size in tensors.values())
    assert model.config is not None
    assert model.config.raw["model_type"] == "llama"
    assert model.config.raw["vocab_size"] == 2000
    assert model.architecture.tied is False
    assert sum(w.total for w in model.architecture.weights()) == model.stored_elements
    assert not any("WARNING" in note for note in model.notes)


def test_long_arrays_are_skipped(tmp_path):
    write(tmp_path / "m.gguf", META, {})
    header = gguf.read_file(tmp_path / "m.gguf")
    assert header.metadata["tokenizer.ggml.tokens.length"] == 2000
    assert header.metadata["tokenizer.ggml.token_type.length"] == 2000


def test_tied_and_rope_tables(tmp_path):
    tensors = weights()
    del tensors["output.weight"]
    write(tmp_path / "m.gguf", META, tensors | {"rope_freqs.weight": (0, (32,), 128)})
    model = load_model(str(tmp_path / "m.gguf"))
    assert model.architecture.tied is True
    assert any("WARNING" in n and "32 are rotary tables" in n for n in model.notes)


def test_unknown_architecture_is_counted_only(tmp_path):
    write(tmp_path / "m.gguf", {"general.architecture": "wavtokenizer"}, {"a": (0, (4, 8), 128)})
    model = load_model(str(tmp_path / "m.gguf"))
    assert (model.stored_bytes, model.stored_elements) == (128, 32)
    with pytest.raises(InputError, match="no architecture"):
        _ = model.architecture


def test_set_overrides(tmp_path):
    write(tmp_path / "m.gguf", META, weights())
    assert load_model(str(tmp_path / "m.gguf"), ["num_hidden_layers=7"]).architecture.num_layers == 7


def head(tensors=0, pairs=0, version=3, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, tensors, pairs)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a GGUF file"),
        (b"GGUF", "not a GGUF file"),
        (head(magic=b"GGML"), "not a GGUF file"),
        (head(version=1), "version 1"),
        (head(version=2**24), "version"),
        (head(tensors=2**60), "claims 1,152,921,504,606,846,976 tensors"),
        (head(pairs=2**60), "key-value pairs"),
        (head(pairs=1) + struct.pack("<Q", 2**60), "claims 1,152,921,504,606,846,976 more bytes"),
        (head(pairs=1) + string("a") + struct.pack("<IIQ", 9, 4, 2**60) + bytes(64), "more bytes"),
        (head(pairs=1) + string("a") + struct.pack("<IIQ", 9, 8, 2**60) + bytes(64), "items"),
        (head(pairs=1) + string("a") + struct.pack("<IIQ", 9, 9, 3) + bytes(64), None),
        (head(pairs=1) + string("a") + struct.pack("<I", 99) + bytes(64), "unknown value type 99"),
        (head(pairs=1) + string("a") + struct.pack("<I", 8), "claims 8 more bytes"),
        (head(tensors=1) + string("t") + struct.pack("<I", 2**31) + bytes(64), "dimensions"),
        (head(tensors=1) + string("t") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0) + bytes(64), "out of range"),
        (head(tensors=1) + string("t") + struct.pack("<IQIQ", 1, 2**58, 0, 0) + bytes(64), "claims bytes up to"),
        (head(tensors=1) + string("t") + struct.pack("<IQIQ", 1, 8, 0, 2**60) + bytes(64), "claims bytes up to"),
        (head(tensors=1) + string("t") + struct.pack("<IQIQ", 1, 100, 12, 0) + bytes(64), "blocks of 256"),
        (head(tensors=1) + string("t") + struct.pack("<IQIQ", 1, 8, 4, 0) + bytes(64), "type 4 is not known"),
        (head(pairs=1) + pair("general.alignment", 0), None),
    ],
)  # fmt: skip
def test_damage_is_one_line(tmp_path, content, says):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    if says is None:  # readable, or refused: but never a crash
        with contextlib.suppress(InputError):
            load_model(str(path))
        return
    with pytest.raises(InputError, match=says) as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value)


def test_truncated_data(tmp_path):
    write(tmp_path / "m.gguf", META, weights(), data=False)
    with pytest.raises(InputError, match="truncated"):
        load_model(str(tmp_path / "m.gguf"))


def test_every_cut_of_a_file_is_clean(tmp_path):
    """Whatever the length at which a download stopped, the error is one line."""
    path = tmp_path / "m.gguf"
    write(path, {k: v for k, v in META.items() if "token" not in k}, {"token_embd.weight": (12, (4, 256), 576)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            load_model(str(path))


def test_parts(tmp_path):
    tensors = list(weights().items())
    for i, some in enumerate((tensors[:7], tensors[7:]), start=1):
        pairs = (META if i == 1 else {}) | {"split.count": 2, "split.no": i - 1}
        write(tmp_path / f"m-{i:05}-of-00002.gguf", pairs, dict(some))
    whole = sum(size for _, (_, _, size) in tensors)
    for i in (1, 2):
        model = load_model(str(tmp_path / f"m-{i:05}-of-00002.gguf"))
        assert model.stored_bytes == whole
        assert not any("WARNING" in note for note in model.notes)
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(InputError, match=r"1 of its parts not here, m-00002-of-00002\.gguf first; all"):
        load_model(str(tmp_path / "m-00001-of-00002.gguf"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))  # as the message says
    model = load_model(str(tmp_path / "m-00001-of-00002.gguf"))
    assert model.stored_bytes is None
    assert any("not here" in note for note in model.notes)
