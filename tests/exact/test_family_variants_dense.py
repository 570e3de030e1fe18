"""The dense decoders' inventories over the switches of their configs, against transformers 5.23's own models."""

from __future__ import annotations

import json
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import pytest

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build
from estimator.families.base import Architecture, Attention
from estimator.inventory import total
from estimator.trace import forget

TOKENS = 24  # as tests/data/make_family_variants_dense.py ran its models
RECORDS = json.loads((Path(__file__).parents[1] / "data" / "family_variants_dense.json").read_text())
LLAMA = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8}


def _name(record: dict[str, Any]) -> str:
    return json.dumps(record["config"])[:100]


def _inventory(made: Architecture) -> Counter[tuple[str, tuple[int, ...]]]:
    counts: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for w in made.weights():
        counts[w.name, tuple(map(int, w.shape))] += int(w.times)
    return counts


def _attentions(made: Architecture) -> list[Attention]:
    """The attention of every layer, in order."""
    out: dict[int, Attention] = {}
    for layer in made.layers:
        assert isinstance(layer.mixer, Attention)
        out |= dict.fromkeys(layer.indices or range(int(layer.times)), layer.mixer)
    assert sorted(out) == list(range(int(made.num_layers)))
    return [out[i] for i in sorted(out)]


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
@pytest.mark.parametrize("record", RECORDS, ids=_name)
def test_every_tensor(record: dict[str, Any], traced: bool) -> None:
    made = build(Config(record["config"], traced=traced))
    want = {(name, tuple(shape)): count for name, shape, count in record["tensors"]}
    assert _inventory(made) == want
    assert total(made.weights()) == sum(prod(shape) * count for (_, shape), count in want.items())


@pytest.mark.parametrize("record", [r for r in RECORDS if "cache" in r], ids=_name)
def test_what_each_layer_caches(record: dict[str, Any]) -> None:
    got = []
    for a in _attentions(build(Config(record["config"]))):
        kept = TOKENS if a.cache_window is None else min(TOKENS, a.cache_window - 1)
        got.append([a.kv_heads if a.cached_heads is None else a.cached_heads, kept, a.head_dim])
    assert got == record["cache"]


@pytest.mark.parametrize("record", [r for r in RECORDS if "rope" in r], ids=_name)
def test_rotary_width(record: dict[str, Any]) -> None:
    widths = {a.rope_dim for a in _attentions(build(Config(record["config"]))) if a.position == "rope"}
    assert widths <= {record["rope"]}


@pytest.mark.parametrize("record", RECORDS, ids=_name)
def test_description_is_consistent(record: dict[str, Any]) -> None:
    made = build(Config(record["config"]))
    assert sum(layer.times for layer in made.layers) == made.num_layers
    for layer in made.layers:
        a = layer.mixer
        assert isinstance(a, Attention)
        assert len(layer.norms) == len(layer.norm_roles)
        assert a.out.d_in == a.heads * a.head_dim
        assert sum(p.d_out for p in a.projections) == (a.heads + 2 * a.kv_heads) * a.head_dim
        assert {p.d_in for p in a.projections} == {made.hidden} == {a.out.d_out}
        assert (a.rope_style == "none") == (a.position != "rope") == (a.rope_dim is None)
        assert layer.wiring in {
            ("input", "pre_mlp"): ("pre", "parallel"), ("pre_mlp", "input"): ("pre",), ("input",): ("parallel",),
            ("post_mixer", "post_mlp"): ("post",), ("input", "post_mixer", "pre_mlp", "post_mlp"): ("sandwich",),
        }[layer.norm_roles]  # fmt: skip


def test_a_homogeneous_stack_keeps_its_letter() -> None:
    made = build(Config(LLAMA, traced=True))
    assert [layer.times.expr for layer in made.layers] == [made.num_layers.expr]


def test_a_hybrid_stack_counts_its_layers_by_kind() -> None:
    forget()
    made = build(Config({"model_type": "gemma2", "num_hidden_layers": 5}, traced=True))
    assert [(str(x.times.expr), int(x.times), x.indices) for x in made.layers] == [
        ("L_win", 3, (0, 2, 4)),
        ("L_full", 2, (1, 3)),
    ]


def test_layers_that_differ_only_in_rotary_embedding_add_up_to_l() -> None:
    made = build(Config({"model_type": "smollm3"}, traced=True))
    assert [layer.mixer.position for layer in made.layers if isinstance(layer.mixer, Attention)] == ["rope", "none"]
    assert sum(layer.times for layer in made.layers).expr == made.num_layers.expr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 7}, "config.json: hidden_size=64 is not a multiple of num_attention_heads=7"),
        ({"num_key_value_heads": 3}, "config.json: num_attention_heads=8 is not a multiple of num_key_value_heads=3"),
        ({"hidden_size": "big"}, "config.json: hidden_size must be a whole number, got 'big'"),
        (
            {"model_type": "qwen2", "layer_types": "full_attention", "num_key_value_heads": 2},
            "layer_types must be a list",
        ),
        ({"model_type": "qwen2", "layer_types": ["full_attention"], "num_key_value_heads": 2}, "has 1 entries for 2"),
        (
            {"model_type": "qwen2", "layer_types": [3, 4], "num_key_value_heads": 2},
            "layer_types must be 'full_attention'",
        ),
        ({"model_type": "qwen2", "layer_types": [[], {}], "num_key_value_heads": 2}, "layer_types must be"),
        (
            {"model_type": "gemma2", "num_key_value_heads": 2, "num_hidden_layers": 10**9},
            "num_hidden_layers is out of range (at most 10,000)",
        ),
        (
            {"model_type": "smollm3", "no_rope_layers": [1], "num_key_value_heads": 2},
            "no_rope_layers must be a list of 2",
        ),
        (
            {"model_type": "gpt_neo", "num_heads": 8, "num_layers": 2},
            "attention_types describes 24 layers, num_layers is 2",
        ),
        ({"model_type": "gpt_neo", "num_heads": 8, "attention_types": [["global"]]}, "attention_types must look like"),
        ({"model_type": "gpt_neo", "num_heads": 8, "attention_types": [[["global"], 10**12]]}, "more than 10,000"),
        ({"model_type": "gptj", "n_embd": 64}, "rotary_dim=64 is larger than a head (8)"),
        ({"model_type": "phi", "partial_rotary_factor": 3}, "partial_rotary_factor=3 of head_dim=8"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention is not supported"),
        ({"model_type": "mpt", "attn_config": "flash"}, "attn_config must be a mapping"),
        ({"model_type": "gemma3", "text_config": 7}, "text_config must be a mapping"),
    ],
)
def test_bad_configs_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(Config({**LLAMA, **change}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_switches_that_a_class_ignores_are_noted() -> None:
    c = Config({"model_type": "mpt", "expansion_ratio": 2})
    build(c)
    assert c.notes == ["expansion_ratio=2 is not read by transformers' MPT, which builds expansion_ratio=4"]


def test_sliding_layers_without_a_window_are_full_and_noted() -> None:
    c = Config({**LLAMA, "model_type": "qwen2", "num_key_value_heads": 2, "layer_types": ["sliding_attention"] * 2})
    made = build(c)
    assert [(a.window, int(layer.times)) for layer in made.layers if isinstance(a := layer.mixer, Attention)] == [
        (None, 2)
    ]
    assert len(c.notes) == 1


def test_an_unknown_wrapper_names_the_text_model_inside() -> None:
    with pytest.raises(InputError, match=r"unknown model_type 'ovis'.* Its text_config alone is a llama\."):
        build(Config({"model_type": "ovis", "text_config": LLAMA}))
