"""What GaLore and APOLLO project: ``--optim-target-modules``."""

from __future__ import annotations

import pytest

from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.errors import InputError
from estimator.models import load_model
from estimator.questions import ask

MODEL = "pythia-14m"


def asked(model=MODEL, **options):
    return plan(ask(Memory, load_model(model), {"mode": "training", "seq_len": "64", **options}))


def projected(**options):
    return {name.rpartition(".weight")[0].rpartition(".")[2] for name in asked(**options).load.projected}


def test_the_layers_or_all():
    layers = {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}
    assert projected(optimizer="galore") == layers
    assert projected(optimizer="apollo", optim_target_modules="all_linear") == {*layers, "lm_head"}


def test_parts_of_names_and_patterns():
    assert projected(optimizer="galore", optim_target_modules="mlp") == {"dense_h_to_4h", "dense_4h_to_h"}
    assert projected(optimizer="galore", optim_target_modules=".*_to_4h,query") == {"dense_h_to_4h", "query_key_value"}


def test_a_tied_output_matrix_is_the_table():
    every = asked("smollm2-135m", optimizer="galore", optim_target_modules="all-linear").load.projected
    assert every == asked("smollm2-135m", optimizer="galore").load.projected


def test_where_there_is_none():
    p = asked("gpt2", optimizer="galore")
    assert p.load.projected == frozenset()
    assert "galore: no layer of gpt2 has a torch.nn.Linear: nothing is projected, and the Trainer refuses it" in p.said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "galore", "optim_target_modules": "c_attn"}, "no linear layer of pythia-14m is called so"),
        ({"optimizer": "galore", "optim_target_modules": "("}, "is no name and no pattern; try attn,mlp"),
        ({"optimizer": "muon", "optim_target_modules": "mlp"}, "is for galore and apollo: --optimizer muon projects"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(InputError, match="--optim-target-modules") as found:
        asked(**options)
    assert said in str(found.value)
