"""Every preset's inventory equals the real model's, tensor by tensor (counted from transformers 5.23, meta device)."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest

from estimator import presets
from estimator.formulas.params import active_params, embedding_params, total_params
from estimator.models import load_model

TENSORS = Path(__file__).parents[1] / "data" / "model_tensors.json.gz"
MODELS = presets.ids("models")


@lru_cache(maxsize=1)
def expected_tensors() -> dict[str, list[tuple[str, list[int], int]]]:
    return json.loads(gzip.decompress(TENSORS.read_bytes()))


def counted(rows) -> Counter:
    """(name, shape) -> how many tensors; every index in a name is ``{i}``, as in the recorded lists."""
    out: Counter = Counter()
    for name, shape, times in rows:
        out[re.sub(r"(?<=\.)\d+(?=\.|$)", "{i}", name), tuple(shape)] += times
    return out


@pytest.mark.parametrize("name", sorted(expected_tensors()))
def test_every_tensor(name):
    arch = load_model(name).architecture
    got = counted((w.name, w.shape, int(w.times)) for w in arch.weights())
    assert got == counted(expected_tensors()[name])


@pytest.mark.parametrize("name", MODELS)
def test_counts(name):
    model = load_model(name)
    arch = model.architecture
    got = {
        "total_params": total_params(arch),
        "active_params": active_params(arch),
        "embedding_params": embedding_params(arch),
        "tied": arch.tied,
    }
    if not arch.has_head:  # a model without logits ties nothing
        got["tied"] = model.expect["tied"]
    assert got == model.expect


@pytest.mark.parametrize("name", MODELS)
def test_layer_indices_are_complete(name):
    """``times`` identical layers are as many as the indices listed."""
    for w in load_model(name).architecture.weights():
        assert w.layers is None or len(set(w.layers)) == w.times
        assert ("{i}" in w.name) or w.times == 1


TRACED = ["llama-3-8b", "mixtral-8x7b", "deepseek-v3", "t5-small", "mamba-130m", "gpt2", "jamba-v0.1"]


@pytest.mark.parametrize("name", TRACED)
def test_traced_run_gives_the_same_inventory(name):
    plain = load_model(name).architecture.weights()
    traced = load_model(name, traced=True).architecture.weights()
    assert [(w.name, w.shape, w.times) for w in traced] == [(w.name, w.shape, w.times) for w in plain]


def test_all_tensor_lists_belong_to_a_preset():
    assert set(expected_tensors()) <= set(MODELS)
