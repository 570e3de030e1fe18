"""Models of the hub: names and addresses, its local cache, what is fetched, and what is said where it cannot be."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from estimator.errors import InputError
from estimator.models import load_model
from estimator.sources import hub
from estimator.sources.hub import Repository, place_of
from estimator.storage import model_storage
from tests.headers.make import safetensors as write

GOOD = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_attention_heads": 4,
        "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 128}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hf:gpt2", Repository("gpt2")),
        ("hf:Qwen/Qwen3-8B", Repository("Qwen/Qwen3-8B")),
        ("hf:Qwen/Qwen3-8B@refs/pr/4", Repository("Qwen/Qwen3-8B", "refs/pr/4")),
        ("hf:Qwen/Qwen3-8B@v1.0", Repository("Qwen/Qwen3-8B", "v1.0")),
        ("hf://Qwen/Qwen3-8B/sub/deeper", Repository("Qwen/Qwen3-8B", "main", "sub/deeper")),
        ("https://huggingface.co/Qwen/Qwen3-8B", Repository("Qwen/Qwen3-8B")),
        ("https://huggingface.co/Qwen/Qwen3-8B/tree/main", Repository("Qwen/Qwen3-8B")),
        ("https://huggingface.co/a/b/blob/v2/text/config.json?x=1", Repository("a/b", "v2", "text")),
        ("huggingface.co/openai-community/gpt2/", Repository("openai-community/gpt2")),
        ("https://hf.co/gpt2/tree/main", Repository("gpt2")),
        ("hf:a/b/tree/v2/text", Repository("a/b", "v2", "text")),
        ("hf:a/b/blob/main/config.json", Repository("a/b")),
    ],
)
def test_places(text, place):
    assert place_of(text) == place


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:../etc/passwd", "hf:a b/c", "hf:a/b@..", "https://example.com/a/b", "https://huggingface.co/",
     "https://huggingface.co/datasets/a/b", "https://huggingface.co/a/../b", "hf:a/b/../../c"],
)  # fmt: skip
def test_what_is_no_place(text):
    with pytest.raises(InputError, match="--model"):
        place_of(text)


@pytest.mark.parametrize("before", ["", "hf:", "hf.co/", "https://huggingface.co/"])
def test_a_tag_of_gguf_files_is_told_its_base_and_mix(before):
    for repo, base in (("unsloth/Qwen3-8B", "qwen3-8b"), ("someone/Foo-7B", "hf:someone/Foo-7B")):
        with pytest.raises(InputError) as caught:
            load_model(f"{before}{repo}-GGUF:Q4_K_M")
        assert f"--model {base} --quantization Q4_K_M" in str(caught.value)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing answers there
    folder = tmp_path / "models--some--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    (folder / "snapshots" / "abc123" / "config.json").write_text(json.dumps(GOOD | {"dtype": "float32"}))
    return folder / "snapshots" / "abc123"


def test_the_local_cache_needs_no_package_and_no_network(cache):
    for text in ("hf:some/model", "some/model", "hf:some/model@abc123"):
        model = load_model(text)
        assert model.kind == "hub"
        assert model.declared.dtype == "fp32"
        assert any("local hub cache" in n for n in model.notes)
    with pytest.raises(InputError, match="could not be fetched"):
        load_model("hf:some/model@other")


def test_offline_is_one_short_line(cache, monkeypatch):
    started = time.monotonic()
    with pytest.raises(InputError, match="Give the preset qwen3-8b instead") as caught:
        load_model("hf:Qwen/Qwen3-8B")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 5
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        load_model("hf:Qwen/Qwen3-8B")


class Hub(BaseHTTPRequestHandler):
    """A hub of a few files, which counts what it is asked and how many bytes it sends."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[tuple[str, str | None, str | None]]] = []

    def do_GET(self):
        path = self.path.lstrip("/")
        self.asked.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        code = {"gated/model": (403, "GatedRepo"), "no/model": (401, "RepoNotFound")}.get("/".join(path.split("/")[:2]))
        if code is None and path not in self.files:
            code = (404, "RevisionNotFound" if "/nope/" in path else "EntryNotFound")
        if code is not None:
            self.send_response(code[0])
            self.send_header("X-Error-Code", code[1])
            self.end_headers()
            return
        data = self.files[path]
        ranged = self.headers.get("Range")
        if ranged:
            data = data[: int(ranged.rpartition("-")[2]) + 1]
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    Hub.files, Hub.asked = {}, []
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    yield Hub
    made.shutdown()
    made.server_close()


def test_config_index_and_modelopts_file_are_fetched(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    at = "some/model/resolve/main/"
    quant = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    index = {"metadata": {"total_size": 12345}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    server.files = {
        at + "config.json": json.dumps(GOOD).encode(), at + "hf_quant_config.json": json.dumps(quant).encode(),
        at + "model.safetensors.index.json": json.dumps(index).encode(),
    }  # fmt: skip
    model = load_model("https://huggingface.co/some/model")
    assert model.declared.scheme.name == "fp8"
    assert model.header.total_bytes == 12345
    assert {auth for _, _, auth in server.asked} == {"Bearer hf_test"}
    assert not any("model-0000" in path for path, _, _ in server.asked)


def test_only_the_header_of_a_weights_file_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "FIRST", 64)
    write(tmp_path / "w.safetensors", {"a.weight": ("F32", [100, 64])})
    at = "some/model/resolve/v1/sub/"
    whole = (tmp_path / "w.safetensors").read_bytes()
    server.files = {at + "config.json": json.dumps(GOOD).encode(), at + "model.safetensors": whole}
    model = load_model("hf:some/model@v1/sub")
    assert model.header.bytes == 4 * 100 * 64
    assert next(r for path, r, _ in server.asked if path.endswith("model.safetensors")) == "bytes=0-63"
    assert all(r is not None for path, r, _ in server.asked if path.endswith("model.safetensors"))
    assert model_storage(model).scheme == "none"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hf:gated/model", "is gated: accept its terms"),
        ("hf:no/model", "no such repository on the hub, or a private one"),
        ("hf:some/model@nope", "has no revision 'nope'"),
        ("hf:some/other", "has neither a config.json nor a params.json"),
        ("hf:some/other-GGUF", "download one of its .gguf files"),
    ],
)
def test_what_the_hub_refuses(server, text, says):
    with pytest.raises(InputError, match=says) as caught:
        load_model(text)
    assert "\n" not in str(caught.value)
