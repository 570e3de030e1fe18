"""Expert, state-space, encoder and encoder-decoder families against transformers' own models, switch by switch.

The fixture is written by tests/data/make_family_variants_other.py (counted from transformers 5.23 on the meta device).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from estimator import api
from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build
from estimator.families.base import Architecture, Attention, MoE, StateSpace
from estimator.models import Model
from estimator.trace import forget
from tests.exact.inventories import tensors

CASES = json.loads((Path(__file__).parents[1] / "data" / "family_variants_other.json").read_text())
IDS = [f"{c['config']['model_type']}-{n}" for n, c in enumerate(CASES)]
TOKENS = 24  # of the forward pass behind the recorded caches


@pytest.mark.parametrize("traced", [False, True], ids=["int", "traced"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_tensors_are_transformers(case: dict[str, Any], traced: bool) -> None:
    made = build(Config(case["config"], traced=traced))
    assert tensors(made) == Counter({(name, tuple(shape)): n for name, shape, n in case["tensors"]})
    assert sum(int(w.total) for w in made.buffers) == case["buffers"]
    assert all(norm_roles(made))


def norm_roles(made: Architecture) -> list[bool]:
    return [len(layer.norms) == len(layer.norm_roles) for layer in made.layers]


def kept(mixer: Attention | StateSpace) -> list[list[int]]:
    """What a layer keeps for the tokens that follow."""
    if isinstance(mixer, StateSpace):
        return [[mixer.conv_width, mixer.conv_kernel], [mixer.inner * mixer.state]]
    tokens = TOKENS if mixer.window is None else min(TOKENS, mixer.window - 1)
    if mixer.mla:
        return [[1, tokens, mixer.mla["kv_rank"]], [1, tokens, mixer.mla["rope"]]]
    return [[mixer.kv_heads, tokens, mixer.head_dim]] * 2


@pytest.mark.parametrize(
    "case", [c for c in CASES if "cache" in c], ids=[i for i, c in zip(IDS, CASES, strict=True) if "cache" in c]
)
def test_layers_stand_where_transformers_has_them(case: dict[str, Any]) -> None:
    made = build(Config(case["config"]))
    for layer in made.layers:
        want = kept(layer.mixer)
        for i in layer.indices or range(int(layer.times)):
            got = case["cache"][i]
            if isinstance(layer.mixer, StateSpace):
                conv, state = got
                got = [conv, [state[0] * state[1] * (state[2] if len(state) > 2 else 1)]]
            assert got == want, f"layer {i}"
    assert sum(int(layer.times) for layer in made.layers) == len(case["cache"])


def test_group_sizes_are_letters() -> None:
    def groups(**config: Any) -> list[str]:
        forget()
        made = build(Config(config, traced=True))
        return [str(getattr(layer.times, "expr", layer.times)) for layer in made.layers]

    assert groups(model_type="mixtral") == ["L"]
    assert groups(model_type="deepseek_v3") == ["L_dense", "L_moe"]
    assert groups(model_type="gpt_oss") == ["L_win", "L_full"]
    assert groups(model_type="qwen3_next") == ["L_ssm", "L_full"]
    assert groups(model_type="jamba") == ["L_ssm_dense", "L_ssm_moe", "L_full_dense"]
    assert groups(model_type="modernbert", architectures=["ModernBertModel"]) == ["1", "L_win", "L_full - 1"]
    assert groups(model_type="albert", architectures=["AlbertModel"]) == ["L"]
    assert groups(model_type="t5", num_layers=4, num_decoder_layers=3) == ["L_enc", "L_dec"]


def test_active_experts_are_a_whole_share() -> None:
    for case in CASES:
        for layer in build(Config(case["config"])).layers:
            if isinstance(layer.mlp, MoE):
                stored = sum(w.total for e in layer.mlp.experts for w in e.weights())
                assert stored * layer.mlp.per_token % layer.mlp.num == 0


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        *((kind, "n_shared_experts") for kind in ("deepseek_v2", "deepseek_v3", "dots1", "glm4_moe", "kimi_linear")),
        *((kind, "num_shared_experts") for kind in ("afmoe", "cohere2_moe", "exaone_moe", "hy_v3", "kimi_linear")),
        ("ernie4_5_moe", "moe_num_shared_experts"),
    ],
)
def test_no_shared_experts_are_no_mlp(kind: str, field: str) -> None:
    """Neither an MLP of no width nor a tensor of no elements, and there is a pass to count."""
    sizes = {"n_routed_experts": 8, "num_experts_per_tok": 2}  # two of the classes have no defaults for these
    made = Model(kind, "file", Config({"model_type": kind, **sizes, field: 0}))
    found = [layer.mlp for layer in made.architecture.layers if isinstance(layer.mlp, MoE)]
    assert found
    assert all(mlp.shared is None for mlp in found)
    assert all(w.total for w in made.architecture.weights())
    assert api.flops(made, mode="forward", seq_len=16).results()["total_flops"] > 0


def test_missing_class_is_a_note() -> None:
    config = Config({"model_type": "bert"})
    build(config)
    assert config.notes == ["architectures missing; counted as BertForMaskedLM"]


BAD = {
    "num_experts_per_tok=9": {"model_type": "mixtral", "num_experts_per_tok": 9},
    "num_experts_per_tok is missing": {"model_type": "deepseek_v2"},
    "num_attention_heads=32 is not a multiple": {"model_type": "mixtral", "num_key_value_heads": 5},
    "hidden_size=100 is not a multiple": {"model_type": "olmoe", "hidden_size": 100},
    "layer_types has 2 entries for 36 layers": {"model_type": "gpt_oss", "layer_types": ["full_attention"] * 2},
    "layer_types holds 'mamba'": {"model_type": "gpt_oss", "num_hidden_layers": 1, "layer_types": ["mamba"]},
    "layer_types holds \"['x']\"": {"model_type": "gpt_oss", "num_hidden_layers": 1, "layer_types": [["x"]]},
    "mlp_only_layers holds '-1'": {"model_type": "qwen2_moe", "mlp_only_layers": [-1]},
    "decoder_sparse_step must be >= 1": {"model_type": "qwen3_moe", "decoder_sparse_step": 0},
    "full_attention_interval must be >= 1": {"model_type": "qwen3_next", "full_attention_interval": 0},
    "linear_num_value_heads=32 is not a multiple": {"model_type": "qwen3_next", "linear_num_key_heads": 5},
    "partial_rotary_factor must be in (0, 1]": {"model_type": "glm4_moe", "head_dim": 64, "partial_rotary_factor": 2},
    "expand * hidden_size": {"model_type": "mamba2", "num_heads": 3},
    "num_heads=128 is not a multiple": {"model_type": "mamba2", "n_groups": 3},
    "time_step_rank must be": {"model_type": "mamba", "time_step_rank": "many"},
    "attn_layer_offset=8 must be smaller": {"model_type": "jamba", "attn_layer_offset": 8},
    "num_hidden_layers is out of range (at most 10,000)": {"model_type": "jamba", "num_hidden_layers": 10**9},
    "feed_forward_proj must be": {"model_type": "t5", "feed_forward_proj": "gated-gelu-new"},
    "architectures names 'BertForDogs'": {"model_type": "bert", "architectures": ["BertForDogs"]},
    "architectures names '7'": {"model_type": "bart", "architectures": [7]},
    "add_cross_attention needs is_decoder": {"model_type": "roberta", "add_cross_attention": True},
    "num_hidden_groups=13": {"model_type": "albert", "num_hidden_groups": 13},
    "dim=768 is not a multiple": {"model_type": "distilbert", "n_heads": 7},
    "d_model=1024 is not a multiple": {"model_type": "bart", "decoder_attention_heads": 7},
    "mlp_layer_types must be 'sparse' or 'dense', got \"['x']\"": {
        "model_type": "glm4_moe_lite", "num_hidden_layers": 1, "mlp_layer_types": [["x"]],
    },
    "mlp_layer_types must be 'hash_moe' or 'moe', got 'None'": {
        "model_type": "deepseek_v4", "num_hidden_layers": 1, "mlp_layer_types": [None],
    },
    "compress_ratios must be 0, 4 or 128 for each of 1 layers, got [4]": {
        "model_type": "deepseek_v4", "num_hidden_layers": 1, "compress_ratios": [[4]],
    },
    "compress_ratios must be 0, 4 or 128 for each of 1 layers, got None": {
        "model_type": "deepseek_v4", "num_hidden_layers": 1, "compress_ratios": [None],
    },
    "must name each of the layers 1 to 2 once": {
        "model_type": "kimi_linear", "num_hidden_layers": 2,
        "linear_attn_config": {"full_attn_layers": ["1"], "kda_layers": [2]},
    },
    "block_types must be 'recurrent' or 'attention', got 'None'": {
        "model_type": "recurrent_gemma", "block_types": [None],
    },
    "indexer_types must name 'full' or 'shared'": {"model_type": "glm_moe_dsa", "indexer_types": 1},
    "unties the shared blocks with it": {"model_type": "zamba2", "tie_word_embeddings": False},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_config_is_one_line(message: str) -> None:
    with pytest.raises(InputError) as error:
        build(Config(BAD[message]))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
