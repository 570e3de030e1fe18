"""``validate LOG``: load logs of llama.cpp build 11549 (CPU back end), every printed size predicted to its last digit;
and names of Ollama's library.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from estimator import api
from estimator.commands.validate.report import load_log
from estimator.engines.llamacpp import log
from estimator.errors import InputError
from estimator.presets import ids
from estimator.sources import ollama_mappings
from estimator.storage.gguf_mix import MIXES, PLAIN_TYPES

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["gemma3", "qwen3"])
def test_every_line_is_predicted(name):
    report = load_log(str(HERE / f"llamacpp_{name}.log"))
    found = report.results()
    assert found["lines"] == found["equal"]
    assert found["lines"] >= 6


def test_a_log_says_what_it_lacks():
    text = (HERE / "llamacpp_qwen3.log").read_text()
    with pytest.raises(InputError, match="whole load log"):
        log.validate("log", "\n".join(x for x in text.splitlines() if "- kv" not in x))
    with pytest.raises(InputError, match="file type"):
        log.validate("log", text.replace("file type", "kind"))
    with pytest.raises(InputError, match="n_ctx"):
        log.validate("log", "\n".join(x for x in text.splitlines() if " n_ctx  " not in x))


def test_other_files_are_no_logs(tmp_path):
    other = tmp_path / "cases.json"
    other.write_text("{}")
    assert load_log(str(other)) is None
    assert load_log(str(tmp_path / "absent")) is None


def test_ollamas_names():
    assert ollama_mappings.named("llama3.1:8b-instruct-q4_K_M") == ("llama-3.1-8b", "q4_k_m", True)
    assert ollama_mappings.named("qwen3:30b-a3b-q8_0") == ("qwen3-30b-a3b", "q8_0", True)
    assert ollama_mappings.named("llama3.2:3b-instruct-fp16") == ("llama-3.2-3b", "f16", True)
    assert ollama_mappings.named("qwen3:8b") == ("qwen3-8b", "q4_k_m", False)
    assert ollama_mappings.named("llama2:7b-chat") == ("llama-2-7b", "q4_0", False)
    assert ollama_mappings.named("gpt-oss:20b") == ("gpt-oss-20b", "mxfp4_moe", False)
    assert ollama_mappings.named("nomic-embed-text:latest") == ("nomic-embed-text-v1.5", "f16", False)
    assert ollama_mappings.named("mymodel:8b-q4_0") is None
    presets = {p for sizes in ollama_mappings.LIBRARY.values() for p in sizes.values()}
    assert presets <= set(ids("models"))


@pytest.mark.parametrize("mix", ["q4_K_M", "q8_0", "fp16"])
def test_a_name_brings_its_mix(mix):
    model = api.load_model(f"llama3.1:8b-instruct-{mix}")
    assert model.name == "llama-3.1-8b"
    assert model.mix in MIXES or model.mix in PLAIN_TYPES
    found = api.memory(model, mode="inference").results()
    assert "host_bytes" in found
