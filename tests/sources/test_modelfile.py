"""Ollama's Modelfile: FROM, num_ctx and num_gpu are read; what stands in texts is not."""

from __future__ import annotations

import pytest

WHOLE = '''# a comment
from llama3.1:8b-instruct-q4_K_M
PARAMETER num_ctx 16384
parameter num_gpu 20
PARAMETER temperature 0.7
SYSTEM """
FROM nothing
PARAMETER num_ctx 1
"""
'''


@pytest.fixture
def modelfile(tmp_path):
    def made(text: str, name: str = "Modelfile") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return made


def test_it_says_what_the_options_would(llmcalc, modelfile):
    got = llmcalc("memory", modelfile(WHOLE), "--gpu", "rtx-4090", "--format", "json")
    said = "memory llama3.1:8b-instruct-q4_K_M --gpu rtx-4090 -c 16384 -ngl 20 --format json"
    assert got.results == llmcalc(said).results
    assert "note: Modelfile: FROM llama3.1:8b-instruct-q4_K_M, num_ctx 16384, num_gpu 20" in got.err
    for command in ("kvcache", "infer"):
        assert llmcalc(command, modelfile(WHOLE), "--gpu", "rtx-4090", "--format", "json").json["inputs"]["ctx_size"]


def test_the_command_line_wins(llmcalc, modelfile):
    got = llmcalc("memory", modelfile(WHOLE), "--ctx-size", "8k", "--format", "json").json["inputs"]
    assert (got["ctx_size"], got["gpu_layers"]) == (8192, 20)


def test_another_engine_and_other_commands_take_the_model_alone(llmcalc, modelfile):
    path = modelfile("FROM llama-3.1-8b\nPARAMETER num_ctx 16384\n", "my.Modelfile")
    assert llmcalc("kvcache", path, "--engine", "vllm", "--gpu", "h100-sxm").code == 0
    assert llmcalc("flops", path, "--format", "json").results == llmcalc("flops llama-3.1-8b --format json").results


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("PARAMETER num_ctx 4096\n", "has no line FROM"),
        ("FROM ./none.gguf\n", "none.gguf: no such file"),
        ("FROM Modelfile\n", "not from a Modelfile"),
        ("FROM nosuch:8b-q4_0\n", "unknown model 'nosuch:8b-q4_0'"),
        ("FROM llama-3.1-8b\nPARAMETER num_ctx many\n", "--ctx-size"),
        ("", "has no line FROM"),
    ],
)
def test_bad_files_are_one_line(llmcalc, modelfile, text, says):
    ran = llmcalc("memory", modelfile(text))
    assert (ran.code, ran.err.splitlines()[-1].startswith("error: ")) == (2, True)
    assert says in ran.err
