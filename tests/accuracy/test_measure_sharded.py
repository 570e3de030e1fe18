"""``measure_memory.py --stack ddp|fsdp|deepspeed``: options of ``memory`` as cases, and ``validate`` of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from tests.accuracy.test_sharded_stacks import DATA

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "measure_stacks.py"
LORA = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
LEFT = {"overlap", "torch_adam", "targets"}  # not asked for: they are so anyway
KNOWN = LEFT | {"stack", "model", "batch", "seq", "stage", "precision", "lora", "adapter_fp32", "checkpoint",
                "accumulation", "offload", "auto"}  # fmt: skip
PHASES = {"forward": "fwd_peak", "backward": "bwd_peak", "step": "step_peak", "peak": "peak"}


def script():
    spec = importlib.util.spec_from_file_location("measure_stacks", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def asked(k):
    """A recorded case as a user would ask it."""
    recipe = "deepspeed" if k["stack"] == "deepspeed" else "torch-mixed" if k["precision"] == "mixed" else "torch-bf16"
    o = {"recipe": recipe, "gpus": "2", "stage": str(k["stage"]), "batch_size": str(k["batch"]),
         "seq_len": str(k["seq"]), "accumulation": str(k.get("accumulation", 1)), "offload": k.get("offload") or "none",
         "checkpointing": "full" if k.get("checkpoint") else "none", "buckets": "auto" if k.get("auto") else "default",
         "optimizer": "adamw-fused"}  # fmt: skip
    if k["precision"] == "fp16":
        o["dtype"] = "fp16"
    if k.get("lora"):
        o |= {"method": "lora", "rank": str(k["lora"]), "targets": LORA}
        o["args"] = {"autocast_adapter_dtype": k.get("adapter_fp32", True)}
    return o


def test_options_are_cases_and_back(llmcalc, tmp_path):
    """Every recorded run of DDP, FSDP2 and DeepSpeed, asked as ``--stack`` takes it, is measured as it was."""
    stacks = {own: name for name, own in script().SHARDED.items()}
    cases, missing = [], object()
    for c in DATA["cases"]:
        k = c["case"]
        if k["stack"] not in stacks or not {name for name, value in k.items() if value} <= KNOWN:
            continue
        if k.get("overlap") is False:
            continue
        made = script().sharded_case(stacks[k["stack"]], k["model"], asked(k))
        for name, value in k.items():
            if name not in LEFT and value not in (None, False):
                assert made.get(name, missing) == value, (c["id"], name)
        measured = {key: c[own] for key, own in PHASES.items() if own in c}
        measured.setdefault("peak", max(measured.values()))
        cases.append({"id": c["id"], "kind": "train", "model": k["model"], "options": asked(k), "measured": measured})
    assert len(cases) >= 30
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({"configs": DATA["configs"], "cases": cases}))
    found = llmcalc(f"validate {file} --format json")
    assert found.code == 0
    assert found.results["predicted"] == found.results["cases"] == len(cases)
    assert found.results["error.worst"] <= 0.3
    assert found.results["error.median"] <= 0.02
