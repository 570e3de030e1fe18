"""FLOPs of every family against FlopCounterMode's counts of the real models, operation by operation equal."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from estimator.commands.flops.report import flops
from estimator.config import Config
from estimator.families.base import Architecture
from estimator.models import Model
from estimator.peft.asked import prepare
from estimator.work.run import products
from estimator.work.workload import PassSizes

DATA = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "flops_cases.json.gz").read_bytes()))
MODELS = DATA["models"]
MODES = {"forward": "forward", "last": "forward", "train": "training", "decode": "decode"}


def named(arch: Architecture, prefixes: list[str]) -> dict[str, Any]:
    """Training the layers and modules whose names start so: what trains, and in how many of the last layers."""
    layers = [int(p.split(".")[2]) for p in prefixes if p.rpartition(".")[2].isdigit()]
    token_table = arch.weights()[0].name

    def trains(name: str) -> bool:
        if "{i}" in name:
            return bool(layers)
        head = arch.tied and name == token_table and any(p.startswith("lm_head") for p in prefixes)
        return head or any(name.startswith(p) for p in prefixes)

    return {"trains": trains, "top": arch.num_layers - min(layers) if layers else None}


def count(record: dict[str, Any], case: dict[str, Any]) -> int:
    config = Config(record["config"])
    model = Model(record["id"], "file", config)
    arch = model.architecture
    how: dict[str, Any] = {}
    if "lora" in case:
        lora = dict(case["lora"])
        targets, rank = lora.pop("targets"), lora.pop("r")
        how["adapter"] = prepare(model, "lora", rank, targets, lora, None)
    if "freeze" in case:
        how |= named(arch, case["freeze"])
    field, default = arch.residual_dropout or ("", 0.0)
    work = PassSizes(
        MODES[case["mode"]],
        case["batch"],
        case.get("seq") or 1,
        case.get("context", 0),
        last=case["mode"] == "last",
        fused=case["attn"] == "fused",
        checkpointing=bool(case.get("ckpt")),
        dropout=config.number(field, default) if field else 0.0,
    )
    return sum(q.total() for q in products(arch, work, **how))


@pytest.mark.parametrize("at", range(len(MODELS)), ids=[f"{m['id']}-{i}" for i, m in enumerate(MODELS)])
def test_counts_are_equal(at: int) -> None:
    record = MODELS[at]
    got = [count(record, case) for case in record["cases"]]
    assert got == [case["total"] for case in record["cases"]]


def multimodal() -> set[str]:
    """Types whose FLOPs test_family_variants_multimodal.py holds, and those that take no tokens."""
    path = Path(__file__).parents[1] / "data" / "family_variants_multimodal.json.gz"
    return {c["config"]["model_type"] for c in json.loads(gzip.decompress(path.read_bytes()))}


def recorded() -> set[str]:
    """The decoders whose FLOPs test_family_variants_more holds to their classes."""
    data = Path(__file__).parents[1] / "data" / "family_variants_more.json.gz"
    return {c["config"]["model_type"] for c in json.loads(gzip.decompress(data.read_bytes()))["cases"] if c["flops"]}


def test_every_family_is_counted() -> None:
    from estimator.families import FAMILIES

    counted = {m["config"]["model_type"] for m in MODELS} | multimodal() | recorded()
    relatives = {"smollm3", "symbolic"}  # Llama's layers; and letters
    missing = set(FAMILIES) - counted - relatives
    assert len(missing) < len(FAMILIES) / 3, sorted(missing)


def test_report_adds_up() -> None:
    from estimator.models import load_model

    model = load_model("llama-3.2-1b")
    r = flops(model, batch_size=2, seq_len=1024, mode="training", checkpointing="full").results()
    assert r["total_flops"] == r["forward_flops"] + r["backward_flops"] + r["recompute_flops"] == 19308025479168
    assert r["flops_per_token"] * 2048 == r["total_flops"]
    assert sum(v for k, v in r.items() if k.startswith("forward.")) == r["forward_flops"]


def test_grouped_experts_are_counted() -> None:
    """FlopCounterMode sees nothing of grouped_mm; a token meets k experts all the same."""
    from estimator.models import load_model

    r = flops(load_model("olmoe-1b-7b"), batch_size=1, seq_len=128).results()
    assert r["forward.experts"] == 2 * 128 * 8 * 3 * 2048 * 1024 * 16
    assert r["forward_flops"] == 303936045056


def test_derivation_equals_the_count() -> None:
    from estimator.derive import derivations
    from estimator.models import load_model
    from estimator.printing import Names

    report = flops(load_model("gpt2", traced=True), batch_size="2", seq_len="1k", mode="training", attention="eager")
    found = {d.key: d.value for d in derivations(report, Names())}
    assert found["total_flops"] == report.results()["total_flops"] == 3 * report.results()["forward_flops"]
