"""Trained, frozen and saved counts equal the peft library's, case by case; what it refuses is refused."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import pytest

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build
from estimator.peft import METHODS
from estimator.peft.asked import build_adapter

DATA = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "peft_cases.json.gz").read_bytes()))
BY_METHOD: dict[str, list] = {}
for _case in DATA["cases"]:
    BY_METHOD.setdefault(_case[1], []).append(_case)


@cache
def architecture(name):
    return build(Config(DATA["configs"][name]))


def count(case):
    name, method, rank, targets, args = case[:5]
    adapter = build_adapter(architecture(name), name, DATA["configs"][name], method, rank, targets, args)
    return adapter.trained, adapter.frozen, adapter.saved


@pytest.mark.parametrize("method", sorted(BY_METHOD))
def test_counts_equal_the_library(method):
    wrong = []
    for case in BY_METHOD[method]:
        want = case[5:]
        if want == [None, None, None]:
            with pytest.raises(InputError):
                count(case)
            continue
        got = count(case)
        if any(w is not None and w != g for w, g in zip(want, got, strict=True)):
            wrong.append((case, got))
    assert not wrong, wrong[:3]


def test_nearly_every_method_has_cases():
    # clusters from k-means, random adapters of the user's own, and what the library does not have
    without = {"adamss", "xlora", "qlora", "adapter", "freeze", "full", "soft-prompt"}
    assert set(METHODS) - set(BY_METHOD) == without


NOT_CONV1D = ("loha", "lokr", "oft", "boft", "hra", "miss", "shira", "c3a", "road", "delora")
NO_DEFAULT = [
    ("pythia-1.4b", "ln_tuning"),
    ("bert-base-uncased", "ln_tuning"),
    ("mixtral-8x7b", "lora"),
    ("mistral-7b-v0.1", "adalora"),
]
REFUSED = [*(("gpt2", m) for m in NOT_CONV1D), *NO_DEFAULT]


@pytest.mark.parametrize(("model", "method"), REFUSED)
def test_refused_as_the_library_refuses(llmcalc, model, method):
    targets = ["--targets", "c_attn"] if model == "gpt2" else []
    ran = llmcalc("peft", "--model", model, "--method", method, *targets)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert method in ran.err
