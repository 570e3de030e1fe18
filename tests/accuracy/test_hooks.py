"""What the hooks of sharding libraries are counted to run, beside 58 steps of a host that bounds most of them."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path

import pytest

from estimator.commands.train.report import train
from estimator.models import load_model
from estimator.parallel.hooks import FSDP2, ZERO3, hook_seconds, library, units
from estimator.peft import find
from estimator.peft.base import run

DATA = json.loads(gzip.decompress(Path(__file__).with_name("hook_times.json.gz").read_bytes()))
LORA = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
RECIPES = {"deepspeed": "deepspeed"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    made = {}
    for name, config in DATA["configs"].items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        made[name] = load_model(str(path))
    return made


def test_what_is_called(models):
    """Two layers of Llama: 13 modules each (itself, attention, 4 + 3 matrices, MLP, activation, 2 norms)."""
    arch = models["llama-2"].architecture
    found = units(arch, None, 3, False, 1)
    assert found.module == 2 * (2 * 13 + 3)  # the table, the last norm, the head
    assert found.group == 2 * (2 + 1)
    assert found.reduced == 2 * 9 + 3
    assert found.gathered == 2 * found.reduced
    again = units(arch, None, 3, True, 4)
    assert (again.module, again.reduced, again.stepped) == (6 * found.module, 4 * found.reduced, found.stepped)
    adapter = run(find("lora"), arch, "llama", DATA["configs"]["llama-2"], LORA, {"r": 8})
    adapted = units(arch, adapter, 2, False, 1)
    assert adapted.module - found.module == 2 * 2 * 7 * 4  # the base layer, the dropout, A and B of seven targets
    assert adapted.stepped == 2 * 7 * 2
    assert hook_seconds(ZERO3, units(arch, adapter, 3, False, 1)) > 2 * hook_seconds(FSDP2, adapted)
    assert library("megatron", 3) is None


def test_measured_steps(models):
    """A faster host than the slowest, whose speed hooks have: its steps lie in the range, under the best value."""
    ratios, outside = [], []
    for c in DATA["cases"]:
        if c["stack"] == "plain":
            continue
        given = {"recipe": RECIPES.get(c["stack"], "torch-bf16"), "batch_size": c["batch"], "seq_len": c["seq"]}
        given |= {"method": "lora", "rank": c["lora"], "targets": LORA} if c.get("lora") else {}
        given |= {"checkpointing": "full"} if c.get("checkpoint") else {}
        given |= {} if given["recipe"] == "deepspeed" else {"optimizer": "adamw-fused"}
        steps = str(c.get("accumulation", 1))
        found = train(
            models[c["model"]], steps=1, gpus=2, stage=str(c["stage"]), accumulation=steps, gpu="h100-sxm", **given
        ).results()
        ratios.append(found["step_seconds"] / c["seconds"])
        if not found["step_seconds.low"] <= c["seconds"] <= found["step_seconds.high"]:
            outside.append(c)
    middle = statistics.median(ratios)
    print(f"{len(ratios)} steps: {middle:.2f} times as long; spread {min(ratios):.2f} to {max(ratios):.2f}")
    assert len(outside) <= 1
    assert 1.2 < middle < 1.5
    assert statistics.median(abs(r / middle - 1) for r in ratios) < 0.12
