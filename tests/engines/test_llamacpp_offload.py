"""Layers on devices in llama.cpp: caches and compute buffers of every place, as its own scheduler lays them out.

The data file says what measured them: devices without kernels, so without what a real card's kernels add. 12 of the
256 are not met, and are marked so: what mends one has to take its mark away.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.placement import Placement
from estimator.engines.llamacpp.weights import of_mix
from estimator.families.common_gguf import blocks, gguf_of
from tests.engines.test_llamacpp_sizes import asked

HERE = Path(__file__).parent


@cache
def records():
    return json.loads((HERE / "llamacpp_offload.json").read_text())["records"]


@pytest.mark.parametrize("record", records(), ids=lambda x: x["context"])
def test_every_place_holds_what_the_scheduler_lays_out(record):
    (arch, made), given = asked(record["context"]), record["place"]
    n = blocks(arch)
    place = Placement(
        n, min(given["gpu-layers"], n + 1), (1.0,) * given["devices"],
        frozenset(range(given.get("cpu-moe", 0))), overlaps=given["overlaps"] and not given["no-kv-offload"],
    )  # fmt: skip
    load = Load("", arch, gguf_of(arch), made, of_mix(arch, "f16", False), place, given["no-kv-offload"])
    found = [[h.cache + h.states, h.compute] for h in load.held]
    assert [h[0] for h in found] == [h[0] for h in record["want"]]
    assert (found == record["want"]) is not record.get("off", False)
