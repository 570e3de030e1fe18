"""Lengths that an engine refuses, and GPUs beyond its degrees: the answer says so, or the question is refused."""

from __future__ import annotations

import json

import pytest

from estimator import api
from estimator.engines.lengths import most_tokens
from estimator.errors import InputError
from estimator.models import load_model

CARD = {"gpu": "h100-sxm"}
YARN = 'rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}'
LINEAR = 'rope_scaling={"rope_type": "linear", "factor": 2.0}'
COMMANDS = (api.memory, api.infer, api.kvcache)


@pytest.mark.parametrize("ask", COMMANDS)
@pytest.mark.parametrize(("engine", "variable"), [
    ("vllm", "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1"), ("sglang", "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1"),
])  # fmt: skip
def test_beyond_the_models_positions(ask, engine, variable):
    """Both raise a ValueError at the start; "Fits" was all that was said."""
    made = ask("llama-3.1-8b", engine=engine, max_model_len=262144, **CARD)
    said = f" But --max-model-len 262,144 is beyond the model's 131,072 positions: {engine} does not start so"
    assert said in made.verdict
    assert variable in made.verdict
    assert "But" not in ask("llama-3.1-8b", engine=engine, max_model_len=131072, **CARD).verdict


def test_tgi_and_tensorrt_llm_say_what_is_known():
    for engine in ("tgi", "tensorrt-llm"):
        made = api.memory("llama-3.1-8b", engine=engine, mode="inference", max_model_len=262144, **CARD)
        assert made.verdict.endswith(" But --max-model-len 262,144 is beyond the model's 131,072 positions.")


@pytest.mark.parametrize(("name", "setting", "vllm", "sglang"), [
    ("qwen3-8b", (), 40960, 40960),
    ("qwen3-8b", (YARN,), 131072, 40960),  # 32,768 x 4; SGLang leaves the positions where the original is named
    ("llama-2-7b", (LINEAR,), 8192, 8192),
    ("llama-3.1-8b", (), 131072, 131072),  # llama3's factor is in its positions
    ("deepseek-v3", (), 163840, 163840),
])  # fmt: skip
def test_scaled_positions(name, setting, vllm, sglang):
    model = load_model(name, setting)
    assert (most_tokens(model, "vllm"), most_tokens(model, "sglang")) == (vllm, sglang)


@pytest.mark.parametrize("ask", COMMANDS)
@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi", "tensorrt-llm"])
def test_requests_longer_than_the_longest_are_refused(ask, engine):
    with pytest.raises(InputError, match=r"--seq-len 8,192.*rejects requests longer than --max-model-len 4,096"):
        ask("llama-3.1-8b", engine=engine, max_model_len="4k", seq_len="8k", **CARD)
    with pytest.raises(InputError, match=r"and 1,000 new tokens: .* Give --max-model-len 4596, "):
        ask("llama-3.1-8b", engine=engine, max_model_len="4k", seq_len=3596, new_tokens=1000, **CARD)
    assert ask("llama-3.1-8b", engine=engine, max_model_len="4k", seq_len=3096, new_tokens=1000, **CARD)


def test_requests_longer_than_the_model():
    made = api.memory("llama-3.1-8b", mode="inference", engine="vllm", seq_len=262144, **CARD)
    assert made.verdict.endswith(" But vllm rejects requests longer than the model's 131,072 tokens (--max-model-len).")


def test_what_is_not_given_fits_the_longest():
    """gpt2 has 1,024 positions: 2,048 and 256 tokens were asked of it."""
    for name, options, shape in (("gpt2", {}, "(768 + 256)"), ("llama-3.1-8b", {"max_model_len": 4096, "seq_len": 4000},
                                 "(4,000 + 96)"), ("llama-3.1-8b", {}, "(2,048 + 256)")):  # fmt: skip
        assert shape in api.infer(name, engine="vllm", **CARD, **options).title


def test_gpus_beyond_the_degrees_are_copies():
    """Six of eight GPUs vanished."""
    same = {"engine": "vllm", "tensor_parallel": 2, "batch_size": 16, "seq_len": 2048, **CARD}
    for ask in COMMANDS:
        made, named = ask("llama-3.1-8b", gpus=8, **same), ask("llama-3.1-8b", data_parallel=4, **same)
        assert made.results() == named.results()
        assert any("--gpus 8: 4 copies of 2 GPUs" in x for x in made.assumptions)
    assert " on 8 x h100-sxm" in api.infer("llama-3.1-8b", gpus=8, **same).title
    assert ", 2 x tensor, 4 x data" in api.memory("llama-3.1-8b", gpus=8, **same).title


def test_gpus_alone_are_one_tensor_group(llmcalc):
    made = api.memory("llama-3.1-8b", engine="vllm", mode="inference", gpus=8, **CARD)
    assert ", 8 x tensor" in made.title
    assert "(engines: tensor)" in " ".join(llmcalc("memory --help").out.split())


@pytest.mark.parametrize("options", [
    {"gpus": 8, "tensor_parallel": 3}, {"gpus": 4, "tensor_parallel": 8},
    {"gpus": 8, "tensor_parallel": 2, "data_parallel": 2}, {"gpus": 8, "pipeline_parallel": 2, "data_parallel": 3},
])  # fmt: skip
def test_gpus_that_are_no_whole_number_of_copies_are_refused(options):
    for ask in COMMANDS:
        with pytest.raises(InputError, match=r"^--gpus \d: the degrees have \d+ GPUs \(tensor"):
            ask("llama-3.1-8b", engine="vllm", **options, **CARD)


def test_without_an_engine_there_are_no_copies(llmcalc):
    ran = llmcalc("infer llama-3.1-8b --gpu h100-sxm --gpus 8 --tensor-parallel 2")
    assert (ran.code, ran.err) == (2, "error: --gpus 8 with --tensor-parallel 2: copies are of serving engines: "
                                      "--engine vllm\n")  # fmt: skip
    results = [json.loads(llmcalc(f"infer llama-3.1-8b --gpu h100-sxm {x} --format json").out)["results"]
               for x in ("--gpus 2", "--tensor-parallel 2", "--gpus 2 --tensor-parallel 2")]  # fmt: skip
    assert results[0] == results[1] == results[2]
