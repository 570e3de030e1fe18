"""What two descriptions of one step must agree on, over one preset of every family."""

from __future__ import annotations

from functools import cache

import pytest

from estimator import presets
from estimator.commands.memory.plan import MemoryPlan, plan, simulate
from estimator.commands.memory.question import Memory
from estimator.errors import InputError
from estimator.models import load_model
from estimator.moments import Outcome, Workload, training
from estimator.peft.simulated import specs
from estimator.questions import ask
from estimator.stack.tape import Tape


@cache
def families() -> list[str]:
    found: dict[str, str] = {}
    for name in presets.ids("models"):
        found.setdefault(load_model(name).architecture.model_type, name)
    return list(found.values())


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("name", families())
def test_what_is_saved_again_is_what_was_saved(name, amp, monkeypatch):
    """W4: torch refuses a recomputation that saves another number of tensors (utils/checkpoint.py)."""
    counts = []
    recompute = Tape.recompute

    def counted(self, frame):
        counts.append(len(frame.nodes))
        recompute(self, frame)  # hands each node what the second run saves: zip(..., strict=True)

    monkeypatch.setattr(Tape, "recompute", counted)
    training(load_model(name).architecture, Workload(1, 64, width=4 if amp else 2, amp=amp, checkpointing="full"))
    assert counts
    assert all(counts)


def adapted(name: str, method: str, targets: str | None) -> MemoryPlan | None:
    """The plan, or None where the peft library refuses the method for this family."""
    given = {"mode": "training", "recipe": "torch-bf16", "seq_len": 64, "method": method, "targets": targets}
    try:
        return plan(ask(Memory, name, given))
    except InputError:
        return None


def ran(p: MemoryPlan) -> Outcome | None:
    """The moments, or None where what is adapted is a tower's own module."""
    try:
        return simulate(p)
    except InputError as error:
        if "it trains a tower alone" in str(error):
            return None
        raise


@pytest.mark.parametrize("name", families())
def test_every_adapted_matrix_is_met_or_named(llmcalc, name):
    """W1: LoRA on stacked experts was counted in the weights and in no activation."""
    tried = (("lora", "all-linear"), ("dora", "all-linear"), ("ia3", None), ("lora", None), ("lora", "in_proj"))
    plans = [p for how in tried if (p := adapted(name, *how)) is not None]
    assert plans
    for p in plans:
        found = ran(p)
        if found is None:
            continue
        wanted, _ = specs(p.load.adapter, p.arch)
        assert set(found.unmet) < set(wanted)
        assert not {x for x in found.unmet if ".experts." in x}


def test_what_is_not_met_is_said(llmcalc):
    said = llmcalc("memory jamba-v0.1 --mode training --method lora --targets all-linear --format json").json
    assert any("dt_proj (" in x and "not simulated" in x for x in said["assumptions"])


def test_lora_on_experts_keeps_w_plus_ba():
    """mixtral-8x7b: W + BA of every expert in bf16 is 32 x 8 x 3 x 4096 x 14336 x 2 bytes more than LoRA on q and v."""
    given = {"mode": "training", "recipe": "torch-bf16", "seq_len": 512, "method": "lora"}
    attention, everything = (
        simulate(plan(ask(Memory, "mixtral-8x7b", given | {"targets": t})))["moments.forward_bytes"].peak
        for t in ("q_proj,v_proj", "all-linear")
    )
    assert everything - attention > 32 * 8 * 3 * 4096 * 14336 * 2


def test_recomputed_experts_as_they_are_saved():
    """olmoe-1b-7b, 4 x 4,096 in amp, checkpointed: 62,506,160,128 on one H100 (tests/accuracy/stacks_wrapped.json.gz).

    60,228,355,584 before experts were seen to multiply in fp32 under autocast."""
    given = {"mode": "training", "recipe": "torch-mixed", "batch_size": 4, "seq_len": 4096, "checkpointing": "full"}
    p = plan(ask(Memory, "olmoe-1b-7b", given | {"optimizer": "sgd"}))
    assert simulate(p).worst.peak == 62_507_173_376


def test_eight_bits_are_prepared_too(llmcalc) -> None:
    """peft's prepare_model_for_kbit_training casts what is not packed to fp32: embeddings, head and norms."""
    line = "memory llama-7b --mode training --method lora --quantization int8 --recipe trainer -s 64 --format json"
    plain, prepared = llmcalc(line).results, llmcalc(f"{line} --prepare-kbit").results
    model = 2 * 32000 * 4096 + 65 * 4096
    assert prepared["weights_bytes"] - plain["weights_bytes"] == 2 * model
    refused = llmcalc(f"{line} --prepare-kbit --quantization none")
    assert refused.code == 2
    assert "4 or 8 bits" in refused.err
