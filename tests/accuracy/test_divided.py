"""Layers, experts and sequences that two H200 share against measured steps, both ranks: transformers' tp_plan and
ep_plan, LoRA with peft's placements, PyTorch's context parallelism. Shared experts and MLA on the first rank alone.

Found on these steps: the first rank's copies of what its ring puts together. The rest was written before."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path

import pytest

from estimator.config import Config
from estimator.models import Model
from estimator.moments import Workload, training
from estimator.parallel.divided import adapter_of_rank, expert_rank, one_rank
from estimator.peft import find
from estimator.peft.base import run

DATA = json.loads(gzip.decompress(Path(__file__).with_name("divided.json.gz").read_bytes()))
CASES = DATA["cases"]
PHASES = {"forward": "fwd_peak", "backward": "bwd_peak", "step": "step_peak"}
LORA = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
# shards and divided matrices of 1 to 19 MiB, whose blocks keep rests or are cut from larger ones (test_sharded_stacks)
RESTS = {"tinyllama-1.1b": 0.022, "phi-3-mini": 0.004, "qwen3-12-layers": 0.011, "deepseek-v3-small": 0.01,
         "deepseek-v2-lite-6-layers": 0.0025, "deepseek-v2-cut": 0.0025, "dots1-cut": 0.0025, "glm-4.5-air-cut": 0.001,
         "glm-4.7-flash-4-layers": 0.001}  # fmt: skip


def predicted(c):
    """The outcome of the first rank."""
    k, mixed = c["case"], c["case"]["precision"] == "mixed"
    arch = Model(k["model"], "file", Config(DATA["configs"][k["model"]])).architecture
    ways, context = (1, 2) if k["stack"] == "context" else (2, 1)
    share = expert_rank(arch, 2) if k.get("plan") == "experts" else one_rank(arch, ways, False)
    adapter = None
    if k.get("lora"):
        whole = run(find("lora"), arch, k["model"], DATA["configs"][k["model"]], LORA, {"r": k["lora"]})
        adapter = adapter_of_rank(whole, share, ways)
    experts = 2 if k.get("plan") == "experts" else 1
    return training(share, Workload(
        k["batch"], k["seq"] // context, width=4 if mixed else 2, amp=mixed, optimizer="adamw-fused", adapter=adapter,
        adapter_width=4 if k.get("adapter_fp32", True) else 2, checkpointing="full" if k.get("checkpoint") else "none",
        gpus=context, stage=k["stage"], context=context, tensor=ways if experts == 1 else 1, experts=experts,
    ))  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=[c["id"] for c in CASES])
def test_every_phase(c):
    found, measured = predicted(c), c["by_rank"][0]
    bound = RESTS.get(c["case"]["model"], 0.0005)
    for phase, key in PHASES.items():
        assert abs(found[f"moments.{phase}_bytes"].peak / measured[key] - 1) < bound, phase


def test_distribution():
    errors = [abs(predicted(c).worst.peak / c["by_rank"][0]["peak"] - 1) for c in CASES]
    print(f"divided: median {statistics.median(errors):.3%}, worst {max(errors):.2%} of {len(errors)}")
    assert statistics.median(errors) < 0.0004
    assert max(errors) < 0.0095


def test_the_first_rank_is_the_fuller():
    """The last GPU of a sequence meets no later keys, and keeps a copy of each attention's output less, where the
    kernel's output lies token by token."""
    for c in CASES:
        first, *others = c["by_rank"]
        assert all(first["peak"] >= x["peak"] for x in others)
        if c["case"]["stack"] != "context":
            assert all(first == x for x in others), c["id"]


@pytest.mark.parametrize("c", [c for c in CASES if c["case"]["stack"] == "tensor"], ids=lambda c: c["id"])
def test_asked(c, llmcalc, tmp_path):
    """What the command says of a GPU that shares layers or experts."""
    k, config = c["case"], tmp_path / "config.json"
    config.write_text(json.dumps(DATA["configs"][k["model"]]))
    line = f"memory --model {config} --mode training -b {k['batch']} -s {k['seq']} --recipe torch-bf16"
    line += f" --optimizer adamw-fused --{'expert' if k.get('plan') == 'experts' else 'tensor'}-parallel 2"
    line += " --checkpointing full" if k.get("checkpoint") else ""
    line += f" --method lora -r {k['lora']} --targets {LORA}" if k.get("lora") else ""
    line += " --arg autocast_adapter_dtype=false" if k.get("adapter_fp32") is False else ""
    found = llmcalc(f"{line} --format json")
    assert found.code == 0
    assert found.results["peak.allocated_bytes"] == predicted(c).worst.peak


REFUSED = [
    ("llama-3.2-1b --expert-parallel 2", "the model has no experts"),
    ("olmoe-1b-7b --expert-parallel 3", "does not divide num_experts = 64"),
    ("olmoe-1b-7b --expert-parallel 2 --tensor-parallel 2", "without tensor, context and pipeline"),
    ("phi-3-mini-4k --tensor-parallel 2 --sequence-parallel", "have no such plan; leave it out"),
    ("llama-3.2-1b --tensor-parallel 2 --method qlora", "no library divides bitsandbytes' packed weights"),
    ("deepseek-v2-lite --tensor-parallel 2 --sequence-parallel", "have no such plan"),
    ("llama-3.2-1b --tensor-parallel 2 --method dora", "use full or lora"),
    ("qwen3-next-80b-a3b --tensor-parallel 2", "for MLA, and a dense MLP or experts"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_refused(line, said, llmcalc):
    found = llmcalc(f"memory {line} --mode training --recipe torch-bf16 -b 1 -s 1024")
    assert found.code == 2
    assert said in found.err
