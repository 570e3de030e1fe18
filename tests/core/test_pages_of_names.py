"""``explain`` and ``models``: costs of recipes and optimizers, where presets are shown, letters of a count."""

from __future__ import annotations

import pytest

from estimator.commands.explain.report import explain
from estimator.commands.models import report as catalog
from estimator.errors import InputError
from estimator.optimizers import OPTIMIZERS
from estimator.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_its_bytes_and_its_source(name):
    text = explain(name).body[0].body
    assert "bytes a trained parameter: " in text
    assert "source: " in text


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_says_what_it_keeps(name):
    text = explain(name).body[0].body
    assert " bytes for an fp32 matrix of 4096 x 4096" in text
    assert "source: " in text


@pytest.mark.parametrize(("name", "command"), [("h100", "gpus h100"), ("llama-3-8b", "models llama-3-8b")])
def test_a_preset_is_shown_by_its_own_command(name, command):
    with pytest.raises(InputError, match=f"llmcalc {command}"):
        explain(name)


def test_a_models_counts_are_derived():
    nodes = {n.key: n for n in catalog.model("llama-3-8b", derive=True).nodes()}
    assert str(nodes["params.token_embeddings"].value.expr) == "V*d"
    changed = catalog.model("llama-3-8b", ("vocab_size=1000",)).results()
    assert changed["params.token_embeddings"] == 1000 * 4096
