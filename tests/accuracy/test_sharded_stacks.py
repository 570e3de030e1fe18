"""Sharded steps with adapters, accumulation, offloading and DeepSpeed against measured ones, phase by phase.

48 runs of two H100 80GB or H200 of one host (torch 2.11, transformers 5.17, peft 0.21, DeepSpeed 0.19.8), rank 0.
"""

from __future__ import annotations

import gzip
import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from estimator.models import load_model
from estimator.moments import Outcome, Workload, training
from estimator.moments.pooled import pooled
from estimator.parallel.divided import one_rank
from estimator.peft import find
from estimator.peft.base import run
from estimator.stack.dropout import NO_DROPOUT, stated

DATA = json.loads(gzip.decompress(Path(__file__).with_name("sharded_stacks.json.gz").read_bytes()))
CASES = DATA["cases"]
# its divided matrices are of 1 to 3 MiB: segments of 20 MiB keep rests with them, which the simulated allocator finds
SMALL = "qwen3-12-layers"
PHASES = {"forward": "fwd_peak", "backward": "bwd_peak", "step": "step_peak"}
LORA = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


@pytest.fixture(scope="module")
def architectures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    made = {}
    for name, config in DATA["configs"].items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        made[name] = load_model(str(path)).architecture
    return made


def predicted(c, arch) -> Outcome:
    return training(*run_of(c, arch))


def run_of(c, arch):
    """The model as one GPU has it, and the workload."""
    k = c["case"]
    deepspeed, mixed = k["stack"] == "deepspeed", k["precision"] == "mixed"
    adapter = None
    if k.get("lora"):
        adapter = run(find("lora"), arch, k["model"], DATA["configs"][k["model"]], LORA, {"r": k["lora"]})
    load = Workload(
        k["batch"], k["seq"], width=4 if mixed else 2, amp=mixed, optimizer="adamw-fused",
        checkpointing="full" if k.get("checkpoint") else "none", quantization="nf4-dq" if k.get("quant") else "",
        gpus=1 if k["stack"] in ("plain", "tensor") else 2, stage=k["stage"], adapter=adapter,
        adapter_width=2 if deepspeed or k.get("adapter_fp32") is False else 4,
        kept_gradients=k.get("accumulation", 1) > 1, sharder="deepspeed" if deepspeed else "torch",
        buckets="auto" if k.get("auto") else "default", host=k.get("offload") or "none",
        fsdp=1 if k["stack"] == "fsdp1" else 2, overlap=k.get("overlap", True),
        root="kept" if k.get("root_kept") else "freed", wrap=k.get("wrap", "layers"),
        reference=k.get("reference", ""), tensor=2 if k["stack"] == "tensor" else 1,
        sequence=k.get("sequence", False), loss="parallel" if k.get("loss_parallel") else "full",
        drops=stated(DATA["configs"][k["model"]], {}, arch.dropouts) if c in DATA["drawn"] else NO_DROPOUT,
    )  # fmt: skip
    return one_rank(arch, load.tensor, load.sequence), load


@pytest.mark.parametrize("index", range(len(CASES)), ids=[c["id"] for c in CASES])
def test_every_phase(index, architectures):
    c = CASES[index]
    found = predicted(c, architectures[c["case"]["model"]])
    for phase, key in PHASES.items():
        off = 0.012 if c["case"]["model"] == SMALL else 0.005
        assert abs(found[f"moments.{phase}_bytes"].peak / c[key] - 1) < off, phase
    if c["case"]["stack"] != "plain" and c["load"] > 1e9 and c["run"] != "third":
        assert abs(found["moments.load_bytes"].peak / c["load"] - 1) < 0.002


@pytest.mark.parametrize("c", DATA["kinds"], ids=lambda c: c["id"])
def test_layers_of_several_kinds(c, architectures):
    """Dense layers, then experts, in small matrices: FSDP2's peaks were 8 to 15% too high."""
    found = predicted(c, architectures[c["case"]["model"]])
    for phase, key in PHASES.items():
        assert abs(found[f"moments.{phase}_bytes"].peak / c[key] - 1) < (0.02 if phase == "step" else 0.009), phase


@pytest.mark.parametrize("c", [c for c in CASES if c["case"]["model"] == SMALL and c["case"]["stack"] == "tensor"],
                         ids=lambda c: c["id"])  # fmt: skip
def test_blocks_of_small_matrices(c, architectures):
    assert abs(pooled(*run_of(c, architectures[SMALL])).allocated / c["peak"] - 1) < 0.003


# what is off by more than half a percent of a phase
REST = {
    "fsdp2/gemma-3-1b/b2s512/stage2/mixed": 0.032,  # shards of 15.2 MiB were cut out of larger free blocks
    "fsdp2/granite-2b-l12/b1s2048/stage3/bf16/lora-r8/adapters16/ckpt": 0.0185,  # 16 MiB of a step of 0.9 GiB
    "fsdp1/tinyllama/b2s1024/stage3/bf16/ckpt": 0.0061,
    "ddp/qwen3-0.6b/b2s1024/stage0/bf16/lora-r16/ckpt": 0.0065,
    "deepspeed/tinyllama/b2s1024/stage3/bf16/lora-r16/auto": 0.0195,  # 22 shards of 4 and 11 MiB in blocks a MiB longer
    # what is gathered while a layer's gradients leave is held at its most, and rests of blocks are not followed
    "deepspeed/mistral-7b-l6/b1s1024/stage3/bf16/auto/offload-all": 0.0106,
    "deepspeed/phi-3-mini-l12/b1s1024/stage3/bf16/auto/offload-optimizer": 0.0075,
    "deepspeed/qwen2.5-3b-l18/b1s1024/stage3/bf16/lora-r16/auto/offload-all": 0.0092,
    "deepspeed/starcoder2-3b-l10/b1s1024/stage3/bf16/auto/offload-all": 0.0135,
    "deepspeed/mistral-7b-l6/b1s1024/stage2/bf16/auto/offload-optimizer": 0.0377,  # rank 0; the other holds more
}


@pytest.mark.parametrize("c", DATA["drawn"], ids=lambda c: c["id"])
def test_steps_that_were_drawn(c, architectures):
    """38 runs of more models under DDP, FSDP and DeepSpeed, predicted first."""
    found = predicted(c, architectures[c["case"]["model"]])
    for phase, key in PHASES.items():
        assert abs(found[f"moments.{phase}_bytes"].peak - c[key]) < max(REST.get(c["id"], 0.005) * c[key], 2**20), phase


def test_peaks_of_what_was_drawn(architectures):
    errors = sorted(
        abs(predicted(c, architectures[c["case"]["model"]]).worst.peak / c["peak"] - 1) for c in DATA["drawn"]
    )
    print(f"drawn: median {statistics.median(errors):.3%}, worst {errors[-2:]} of {len(errors)}")
    assert statistics.median(errors) < 0.0003
    assert errors[-3] < 0.0125


@pytest.mark.parametrize("c", [c for c in DATA["drawn"] if "peaks" in c], ids=lambda c: c["id"])
def test_the_rank_that_holds_more(c, architectures):
    """Offloaded gradients of DeepSpeed's stage 2: each rank takes the norm of its own part in double."""
    arch, load = run_of(c, architectures[c["case"]["model"]])
    found = [training(arch, replace(load, last=last)).worst.peak for last in (False, True)]
    assert max(found) == pytest.approx(max(c["peaks"]), rel=2e-5)


def test_what_leaves_for_the_host_as_it_was_predicted():
    """Before the copies of shards, the hooks of activations and the norms in double were known: up to 7% too low."""
    off = [c["before"] / c["peak"] - 1 for c in DATA["drawn"] if "before" in c]
    assert len(off) == 9
    assert min(off) < -0.07


def test_the_last_rank(architectures):
    """DeepSpeed's stages 1 and 2: both ranks, where the last one holds up to 3% more."""
    found = [c for c in CASES if c["case"]["stack"] == "deepspeed" and c["case"]["stage"] in (1, 2)]
    for c in found:
        arch, load = run_of(c, architectures[c["case"]["model"]])
        last = training(arch, replace(load, last=True)).worst.peak
        assert abs(last / c["peak_by_rank"][1] - 1) < 0.0003, c["id"]
    assert len(found) == 11
    assert max(c["peak_by_rank"][1] / c["peak_by_rank"][0] for c in found) > 1.029


def test_distribution(architectures):
    errors = sorted(
        abs(predicted(c, architectures[c["case"]["model"]]).worst.peak / c["peak"] - 1) for c in CASES
    )
    print(f"sharded stacks: median {statistics.median(errors):.3%}, worst {errors[-1]:.2%} of {len(errors)}")
    assert statistics.median(errors) < 0.0002
    assert errors[-1] < 0.01


TIMED = [c for c in CASES if c["case"]["stack"] not in ("plain", "tensor") and "seconds" in c]


def answered(c, llmcalc, folder):
    """What ``train`` says of the measured step."""
    k = c["case"]
    config = folder / "config.json"
    config.write_text(json.dumps(DATA["configs"][k["model"]]))
    recipe = "deepspeed" if k["stack"] == "deepspeed" else "torch-mixed" if k["precision"] == "mixed" else "torch-bf16"
    line = f"train --model {config} --steps 1 --gpus 2 --stage {k['stage']} -b {k['batch']} -s {k['seq']}"
    line += f" --recipe {recipe} --accumulation {k.get('accumulation', 1)} --offload {k.get('offload', 'none')}"
    line += " --checkpointing full" if k.get("checkpoint") else ""
    line += f" --method lora -r {k['lora']} --targets {LORA}" if k.get("lora") else ""
    line += " --quantization nf4-dq" if k.get("quant") else ""
    line += " --arg autocast_adapter_dtype=false" if k.get("adapter_fp32") is False else ""
    return llmcalc(f"{line} --format json").results


def test_steps_of_a_slow_host(llmcalc, tmp_path):
    """The host of the first run is the slowest of three, at whose speed hooks are given."""
    first = [c for c in TIMED if c["run"] == "first"]
    errors = sorted(abs(answered(c, llmcalc, tmp_path)["step_seconds"] / c["seconds"] - 1) for c in first)
    print(f"{len(first)} steps: median {statistics.median(errors):.1%}, largest {errors[-1]:.1%}")
    assert statistics.median(errors) < 0.13
    assert errors[-1] < 0.40


def test_steps_of_any_host_lie_in_the_range(llmcalc, tmp_path):
    others = [c for c in TIMED if c["run"] != "first" and not c["case"].get("torch_adam")]
    for c in others:
        found = answered(c, llmcalc, tmp_path)
        assert found["step_seconds.low"] <= c["seconds"] <= found["step_seconds.high"], c["id"]


def test_steps_of_divided_layers(llmcalc, tmp_path):
    """DTensor's dispatch decides: three steps that ran alone, which its one constant was taken from."""
    found = [c for c in CASES if c["case"]["stack"] == "tensor" and "seconds" in c]
    for c in found:
        k = c["case"]
        config = tmp_path / "config.json"
        config.write_text(json.dumps(DATA["configs"][k["model"]]))
        line = f"train --model {config} --steps 1 --recipe torch-bf16 --gpu h200 --gpus 2 --tensor-parallel 2"
        line += f" -b {k['batch']} -s {k['seq']}"
        line += " --sequence-parallel --loss gathered" if k.get("sequence") else ""
        assert abs(llmcalc(f"{line} --format json").results["step_seconds"] / c["seconds"] - 1) < 0.05, c["id"]
    assert len(found) == 3
