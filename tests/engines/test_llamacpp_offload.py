"""Layers on devices in llama.cpp: caches and compute buffers of every place, as its own scheduler lays them out.

The data file says what measured them: devices without kernels, so without what a real card's kernels add. 12 of the
256 are not met, and are marked so: what mends one has to take its mark away.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import pytest

from estimator.config import Config
from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.placement import Placement
from estimator.engines.llamacpp.weights import of_mix
from estimator.families import build
from estimator.families.gguf import blocks, gguf_of

HERE = Path(__file__).parent


@cache
def contexts():
    return json.loads(gzip.decompress((HERE / "llamacpp_contexts.json.gz").read_bytes()))


@cache
def records():
    return json.loads((HERE / "llamacpp_offload.json").read_text())["records"]


@pytest.mark.parametrize("record", records(), ids=lambda x: x["context"])
def test_every_place_holds_what_the_scheduler_lays_out(record):
    x = next(r for r in contexts()["records"] if r["id"] == record["context"])
    arch, o, asked = build(Config(contexts()["configs"][x["model"]])), x["options"], record["place"]
    made = Context(
        o["ctx-size"], o["parallel"], o["logical-batch"], o["ubatch-size"], o["cache-type-k"], o["cache-type-v"],
        o["flash-attn"] != "off", o.get("swa-full", False), o.get("kv-unified", False),
        None if o["outputs"] == "all" else o["outputs"],
    )  # fmt: skip
    n = blocks(arch)
    place = Placement(
        n, min(asked["gpu-layers"], n + 1), (1.0,) * asked["devices"],
        frozenset(range(asked.get("cpu-moe", 0))), overlaps=asked["overlaps"] and not asked["no-kv-offload"],
    )  # fmt: skip
    load = Load("", arch, gguf_of(arch), made, of_mix(arch, "f16", False), place, asked["no-kv-offload"])
    found = [[h.cache + h.states, h.compute] for h in load.held]
    assert [h[0] for h in found] == [h[0] for h in record["want"]]
    assert (found == record["want"]) is not record.get("off", False)
