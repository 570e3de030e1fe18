"""Blind sharded steps: drawn by a script over 61 families, predicted, then measured (DeepSpeed, FSDP1, FSDP2, DDP).

43 were drawn first; 39 more when what those showed was mended, 40 when what both showed was (FSDP1's flat gradient was
found on these). What is still off by more than ``FAR`` in a phase is named below, with its cause where it is known.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from statistics import median

from estimator.commands.memory.plan import plan
from estimator.moments import training
from estimator.stack.dropout import stated
from estimator.trace import value_of
from tests.accuracy.test_stacks import cases, question

NAME = "sharded_blind"
PHASES = ("load", "forward", "backward", "step")
FAR = 0.01
SPLIT = "rests of blocks and of DeepSpeed's shards, one small tensor each"
RECORDED = "the backward pass frees what the reduction's stream has used when that comes round"
# stack/model/batch -> why a phase of it is further off
KNOWN = {
    "deepspeed/deberta-v3/": "not known",
    "deepspeed/codegen-350m/b4": SPLIT,
    "deepspeed/flan-t5-large/": SPLIT,
    "deepspeed/falcon-7b-l5/b4": "gathered weights are freed when the card, behind the CPU, has used them",
    "deepspeed/starcoder2-3b-l8/": RECORDED,
    "deepspeed/deepseek-v2-lite-l4/": RECORDED,
    "deepspeed/zamba2-s/b1s512/stage3": "layers of shared weights are gathered once each",
    "deepspeed/qwen3-vl-l8/": "a tower without gradients is of the first part, and gets zeros",
    "fsdp2/flex-olmo-s/": "not known",
    "deepspeed/distilbert/b1s128": SPLIT,
    "deepspeed/jais2-s/": "not known",
    "deepspeed/smollm3-l8/b4s256/stage3": "not known",
    "fsdp1/gemma4-text/": "not known",
    "deepspeed/starcoderbase-1b/": "not known",
}


@cache
def found():
    """id -> phase -> relative error. DeepSpeed's recipe says dropout 0: the config's was measured."""
    return {c["id"]: errors(c) for c in cases(NAME)}


def errors(case):
    p = plan(question(case))
    raw, arch = p.question.model.config.raw, p.question.model.architecture
    drops = stated(raw, arch.facts.get("drops", {}), arch.dropouts)
    made = training(p.share, replace(p.load, drops=drops) if case["options"]["recipe"] == "deepspeed" else p.load)
    return {k: value_of(made[f"moments.{k}_bytes"].peak) / case["measured"][k] - 1 for k in PHASES}


def peaks(draw, then=False):
    """Relative errors of the peaks, the smallest first: as they are, or as they were predicted."""
    out = []
    for c in cases(NAME):
        if c["draw"] == draw:
            now = {k: (1 + e) * c["measured"][k] for k, e in found()[c["id"]].items()}
            out.append(abs(max((c["before"] if then else now).values()) / max(c["measured"].values()) - 1))
    return sorted(out)


def nine_tenths(errors):
    return errors[int(0.9 * len(errors))]


def test_every_phase():
    far = {i for i, e in found().items() if max(map(abs, e.values())) > FAR}
    assert {i for i in far if not any(i.startswith(k) for k in KNOWN)} == set()
    assert {k for k in KNOWN if not any(i.startswith(k) for i in far)} == set()


def test_the_peaks():
    """Median and nine in ten, now and as predicted."""
    bars = ((1, 0.0004, 0.007, 0.0199), (2, 0.0005, 0.024, 0.06), (3, 0.0004, 0.005, 0.006))
    for draw, mid, most, was in bars:
        now = peaks(draw)
        assert (median(now) <= mid, nine_tenths(now) <= most) == (True, True)
        assert nine_tenths(peaks(draw, then=True)) >= was
