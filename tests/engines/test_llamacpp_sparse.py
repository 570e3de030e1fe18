"""llama.cpp's sparse attention and Kimi's delta net: what the answers show, and what is refused in one line."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import pytest

from estimator import api
from estimator.engines.llamacpp.weights import of_header
from estimator.errors import InputError
from estimator.headers import FileTensor, Header
from estimator.models import load_model


@cache
def configs():
    path = Path(__file__).parent / "llamacpp_contexts.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))["configs"]


def answer(tmp_path, name, command=api.memory, options=None, **changes):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(configs()[name] | changes))
    return command(str(path), engine="llama.cpp", **{"ctx_size": 8192} | (options or {}))


def test_the_indexers_cache_has_a_row_of_its_own(tmp_path):
    config = configs()["n4-glm-dsa-1"]
    found = answer(tmp_path, "n4-glm-dsa-1", api.kvcache).results()
    own = config["indexer_types"].count("full") * config["index_head_dim"] * 2  # f16
    assert found["bytes_per_token"] - own == config["num_hidden_layers"] * 2 * (
        config["kv_lora_rank"] + config["qk_rope_head_dim"]
    )
    assert found["kv_cache_bytes"] == 8192 * found["bytes_per_token"]
    assert found["kv_cache_bytes"] - found["latent_bytes"] == 8192 * own


def test_every_layers_zeros_are_there_from_the_start(tmp_path):
    sizes = {}
    for top in (512, 1024):
        report = answer(tmp_path, "n4-deepseek-v3.2", options={"quantization": "q4_k_m"}, index_topk=top)
        sizes[top] = report.results()["compute_bytes"]
    assert sizes[1024] - sizes[512] == 61 * 512 * 512 * 4  # layers, keys, tokens, bytes


@pytest.mark.parametrize(
    ("name", "options", "changes", "says"),
    [
        ("n4-deepseek32-0", {"engine_version": "b9538"}, {}, "--engine-version b9538: sparse attention"),
        ("n4-glm-dsa-0", {}, {"indexer_types": ["shared"] + ["full"] * 5}, "an indexer in the first layer"),
        ("n4-deepseek32-0", {}, {"index_head_dim": 96}, "keys of a multiple of 64"),
        ("n4-deepseek32-0", {"cache_type_k": "q4_0"}, {}, "--cache-type-v f16: a latent cache has one type"),
        ("n4-step35-0", {}, {"swiglu_limits": 7}, "swiglu_limits must list a bound for each layer, got '7'"),
    ],
)
def test_what_is_refused(tmp_path, name, options, changes, says):
    if "indexer_types" in changes:
        changes = {"indexer_types": changes["indexer_types"][: configs()[name]["num_hidden_layers"]]}
    with pytest.raises(InputError, match=says):
        answer(tmp_path, name, options=options, **changes)


def test_a_delta_net_has_the_heads_of_the_attention(tmp_path):
    linear = configs()["n4-kimi-linear-0"]["linear_attn_config"]
    with pytest.raises(InputError, match="delta net the heads of its attention"):
        answer(tmp_path, "n4-kimi-linear-0", linear_attn_config=linear | {"num_heads": 2 * linear["num_heads"]})


def test_layers_that_predict_further_tokens_are_not_loaded():
    tensors = [FileTensor(f"blk.{i}.attn_norm.weight", "fp32", (8,), 1, 32) for i in range(4)]
    arch = load_model("qwen3-0.6b", ["num_hidden_layers=3"]).architecture
    found = of_header(Header("m.gguf", "gguf", tuple(tensors), {}), arch)
    assert (found.total, found.table) == (96, 0)
    assert "further tokens" in found.notes[-1]
