"""Decoders beside the classes of transformers 5.24: every tensor, the bytes of the cache, the FLOPs; ``==``.

Recorded by tests/data/make_family_variants_more.py.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from estimator import api
from estimator.config import Config
from estimator.models import Model

DATA = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "family_variants_more.json.gz").read_bytes()))
NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")  # as the records write them
META, CASES = DATA["meta"], DATA["cases"]


def cases(field=None):
    """The cases where ``field`` could be recorded, named by their types."""
    return [
        pytest.param(c, id=f"{c['config']['model_type']}-{i}")
        for i, c in enumerate(CASES)
        if field is None or c[field] is not None
    ]


def model(case):
    return Model(case["config"]["model_type"], "file", Config(case["config"]))


@pytest.mark.parametrize("case", cases())
def test_tensors(case):
    got: Counter = Counter()
    for w in model(case).architecture.weights():
        got[NUMBER.sub("{i}", w.name), tuple(int(x) for x in w.shape)] += int(w.times)
    want: Counter = Counter()
    for name, shape, times in case["tensors"]:
        want[name, tuple(shape)] += times
    assert got == want


@pytest.mark.parametrize("case", cases("cache"))
def test_cache(case):
    got = api.kvcache(model(case), batch_size=META["batch"], seq_len=META["seq"], kv_dtype="bf16").results()
    assert got["kv_cache_bytes"] == case["cache"]


@pytest.mark.parametrize("case", cases("flops"))
def test_flops(case):
    options = {"batch_size": 1, "seq_len": META["flops_seq"], "mode": "forward", "attention": "eager"}
    assert api.flops(model(case), **options).results()["total_flops"] == case["flops"]


@pytest.mark.parametrize("case", cases())
def test_every_fold_runs(case):
    """Memory of a step and of generation, with and without adapters and checkpointing, and the FLOPs of training."""
    m = model(case)
    scans = any(getattr(mixer, "kind", "") == "chunked" for x in m.architecture.layers for mixer in (x.mixer, x.second))
    targets = "in_proj" if scans else "all-linear"  # peft refuses the out_proj of some Mamba models
    for options in (
        {"mode": "training"},
        {"mode": "training", "checkpointing": "full", "recipe": "torch-bf16"},
        {"mode": "training", "method": "lora", "targets": targets},
        {"mode": "inference", "new_tokens": 4},
    ):
        assert api.memory(m, batch_size=2, seq_len=48, **options).results()["peak.allocated_bytes"] > 0
    assert api.flops(m, mode="training", batch_size=2, seq_len=48).results()["total_flops"] > 0
