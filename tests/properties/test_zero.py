"""Shards sum to the whole, higher stages never need more, a degree of 1 changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator import presets
from estimator.commands.zero.report import zero
from estimator.models import load_model
from estimator.ops import ceil_div
from estimator.parallel import tensor
from estimator.parallel.recipe import SENT, rates
from estimator.parallel.sharding import Piece, greedy, held, shard
from estimator.recipes import RECIPES as ALL_RECIPES

RECIPES = [name for name in SENT if name != "deepspeed"]
MODELS = ("gpt2", "llama-3.2-1b", "mixtral-8x7b", "deepseek-v2-lite", "mamba-130m", "t5-small", "bert-base-uncased")


def whole(name: str, over: int) -> Piece:
    weights = tuple(load_model(name).architecture.weights())
    return Piece("weights", sum(w.total for w in weights), over, weights)


@given(st.integers(1, 10**12), st.integers(1, 10**5), st.sampled_from(RECIPES))
@settings(max_examples=200, deadline=None)
def test_shards_sum_to_the_whole_up_to_stated_padding(n, over, recipe):
    r = rates(recipe, "adamw")
    for stage in range(4):
        for h, width in zip(
            held([Piece("weights", n, over)], r, stage), (r.weight, r.gradient, r.optimizer), strict=True
        ):
            assert (h.bytes * over - h.padding if h.sharded else h.bytes) == width * n
            assert 0 <= h.padding < over * width


@given(st.integers(1, 10**12), st.integers(1, 10**5), st.sampled_from(RECIPES))
@settings(max_examples=200, deadline=None)
def test_a_higher_stage_never_needs_more(n, over, recipe):
    r = rates(recipe, "adamw")
    totals = [sum(h.bytes for h in held([Piece("weights", n, over)], r, s)) for s in range(4)]
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("over", [1, 2, 3, 8, 64])
def test_tensors_of_real_models(name, over):
    piece = whole(name, over)
    for recipe in RECIPES:
        r = rates(recipe, "adamw")
        totals = [sum(h.bytes for h in held([piece], r, s)) for s in range(4)]
        assert totals == sorted(totals, reverse=True)
        for stage in (1, 2, 3):
            assert ceil_div(piece.elements, over) <= shard(piece, r, stage) <= piece.elements
    if over == 1:
        assert greedy(piece.weights, 1) == piece.elements


@pytest.mark.parametrize("name", presets.ids("models"))
def test_one_gpu_holds_the_whole_inventory(name):
    arch = load_model(name).architecture
    cut = tensor.Cut()
    layers = sum((1 if g.shared else g.times) * sum(w.total for w in tensor.layer(g, cut)) for g in arch.layers)
    assert sum(w.total for w in (*tensor.first(arch, cut), *tensor.last(arch, cut))) + layers == sum(
        w.total for w in arch.weights()
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("t", [2, 4])
def test_tensor_parallel_parts_cover_the_layer(name, t):
    for group in load_model(name).architecture.layers:
        parts = t * sum(w.total for w in tensor.layer(group, tensor.Cut(t)))
        one = sum(w.total for w in tensor.layer(group, tensor.Cut()))
        norms = sum(
            w.total
            for w in tensor.layer(group, tensor.Cut())
            if len(w.shape) < 2 or w.role in ("norm", "router", "other")
        )
        assert one <= parts
        if not getattr(group.mixer, "mla", None) and name != "mixtral-8x7b":
            assert parts <= one + t * norms


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipeline_parallel": 1},
        {"context_parallel": 1, "expert_parallel": "1"},
        {"tensor_parallel": "1"},
        {"micro_batches": 1},
        {"schedule": "1f1b"},
        {"zero_pp": ""},
        {"offload": "none"},
    ],
)
def test_a_degree_of_one_changes_nothing(options):
    want = zero(load_model("gpt2"), gpus=8, seq_len=1024).results()
    assert zero(load_model("gpt2"), gpus=8, seq_len=1024, **options).results() == want


@pytest.mark.parametrize("recipe", SENT)
def test_one_gpu_is_the_same_at_every_stage(recipe):
    got = zero(load_model("gpt2"), gpus=1, recipe=recipe).results()
    if recipe != "deepspeed":  # its stage 3 adds the largest layer
        assert len({got[f"stage{s}.memory_bytes"] for s in range(4)}) == 1
        assert all(got[f"stage{s}.communication_bytes"] == 0 for s in range(4))


@given(st.integers(1, 9), st.integers(0, 3), st.integers(0, 2), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_more_parallelism_never_needs_more_states(data, t, p, m):
    def least(tensor_parallel: int, pipeline_parallel: int) -> int:
        report = zero(
            load_model("llama-3.2-1b"),
            gpus=data * tensor_parallel * pipeline_parallel,
            stage=1,
            tensor_parallel=tensor_parallel,
            pipeline_parallel=pipeline_parallel,
            micro_batches=m,
        )
        return int(report.results()["stage1.memory_bytes"])

    assert least(2**t, 2**p) <= least(1, 1)


def test_every_recipe_is_known_to_who_counts_what_is_sent():
    """train --recipe grpo --gpus 4 was refused as an unknown recipe, as were reward, axolotl, litgpt and torchtune."""
    assert set(SENT) == set(ALL_RECIPES)
