"""RWKV 6 and 7: parameters as their classes or their published files have them, and what is known beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimator import api
from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build
from estimator.models import Model
from estimator.storage.base import layers_of

CASES = json.loads((Path(__file__).parents[1] / "data" / "rwkv7.json").read_text())["cases"]
FINCH = {"model_type": "rwkv6", "hidden_size": 4096, "num_hidden_layers": 32, "head_size": 64, "vocab_size": 65536}
QWEN = {"model_type": "rwkv6qwen2", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40,
        "num_key_value_heads": 8, "intermediate_size": 27648}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[str(c["total"]) for c in CASES])
def test_the_parameters_are_the_classs(case):
    made = build(Config(case["config"]))
    got = {(w.name.replace("{i}", str(i)), tuple(w.shape)) for w in made.weights() for i in layers_of(w)}
    want = {(name.replace("{i}", str(i)), tuple(shape)) for name, shape, layers in case["tensors"] for i in layers}
    assert got == want
    assert sum(w.total for w in made.weights()) == case["total"]


def test_finch_7b_has_as_many_tensors_as_its_published_file():
    """902 tensors: a load log of build 3669 (github.com/ggml-org/llama.cpp/issues/9315), which keeps w, k, v, r, g."""
    assert sum(int(w.times) for w in build(Config(FINCH)).weights()) == 902


@pytest.mark.parametrize("config", [CASES[0]["config"], FINCH, QWEN], ids=lambda c: c["model_type"])
def test_what_is_computed_is_known_of_llama_cpp_alone(config):
    made = Model("m", "file", Config(config))
    d, layers, head = config["hidden_size"], config["num_hidden_layers"], config.get("head_size", 64)
    head = d // config["num_attention_heads"] if "num_attention_heads" in config else head
    shifts = 1 if config["model_type"] == "rwkv6qwen2" else 2
    found = api.kvcache(made, engine="llama.cpp", quantization="q4_k_m", parallel=3, ctx_size=4096).results()
    assert found["recurrent_bytes"] == 3 * layers * 4 * (shifts * d + d * head)
    assert found["kv_cache_bytes"] == found["bytes_per_token"] == 0
    assert api.infer(made, engine="llama.cpp", quantization="q4_k_m", gpu="rtx-3060").results()["request_seconds"] > 0
    for command in (api.kvcache, api.flops):
        with pytest.raises(InputError, match=r"what llama\.cpp does is: --engine llama\.cpp"):
            command(made)
    alone = api.memory(made)
    assert alone.verdict.endswith("whether it fits is not said; what llama.cpp does is: --engine llama.cpp.")
    assert api.peft(made, method="full").results()["trainable_params"] == alone.results()["params.total"]


@pytest.mark.parametrize(("change", "word"), [
    ({"expand_k": 0.5}, "RWKV6ForCausalLM is not described"), ({"attention_hidden_size": 64}, "attention_hidden_size"),
    ({"head_size": 60}, "not a multiple of head_size=60"),
])  # fmt: skip
def test_other_finches_are_refused(change, word):
    with pytest.raises(InputError, match=word):
        build(Config(FINCH | change))


@pytest.mark.parametrize(("change", "word"), [
    ({"attn": {"layers": [1]}}, "layers that attend"), ({"value_dim": 1536}, "values wider"),
    ({"model_type": "rwkv_hybrid", "intermediate_size": 512, "wkv_version": 6}, "only version 7"),
])  # fmt: skip
def test_other_seventh_versions_are_refused(change, word):
    with pytest.raises(InputError, match=word):
        build(Config(CASES[0]["config"] | change))
