"""Blind steps: drawn by a script over all that one card offers, predicted, then measured on one H200.

Of 78 drawn first the mechanisms that they showed to be missing were mended; 41 more (``late``) were measured before
that and looked at after (a slip in the new code for LLM.int8() and EuroBERT's loss were found on them). What is still
far off is named below, with its cause where it is known.
"""

from __future__ import annotations

from estimator.commands.memory.plan import plan
from estimator.commands.memory.stack import micro_batches
from estimator.moments.pooled import pooled
from tests.accuracy.test_stacks import cases, errors, predicted, question, spread

NAME = "stacks_blind"
COMPILED = "/compile"
FAR = 0.007
# model/method -> why it is still off by more than FAR; compiled steps that were not looked at are apart
KNOWN = {
    "torch/command-r7b-l2": "BOFT's permutations, counted: a loop leaves them on the CPU, the Trainer does not",
    "torch/nllb-600m/b4": "layers are skipped at random (layerdrop)",
    "trainer/mpnet-base": "rests of blocks",
    "torch/deberta-v3": "rests of blocks",
}
RESTS = ("trainer/umt5-base", "trainer/mpnet-base", "torch/deberta-v3")


def found(late):
    return errors(NAME, lambda c: c["late"] is late and COMPILED not in c["id"])


def before(late):
    return {c["id"]: c["before"] / c["measured"]["peak_allocated"] - 1
            for c in cases(NAME) if c["late"] is late and COMPILED not in c["id"]}  # fmt: skip


def known(ident):
    return any(ident.startswith(k) for k in KNOWN)


def test_what_the_first_draws_showed():
    now = found(False)
    was = spread(before(False))
    mid, _, _ = spread(now)
    assert was[2] > 0.46
    assert mid <= 0.0006
    assert {k for k, e in now.items() if abs(e) > FAR and not known(k)} == set()


def test_what_was_drawn_and_looked_at_later():
    """Median 0.10% as first predicted, and worst 19%; the mechanisms were found on the other draws."""
    now, was = found(True), spread(before(True))
    mid, _, worst = spread(now)
    assert was[2] > 0.19
    assert mid <= 0.0005
    assert worst <= 0.09
    assert {k for k, e in now.items() if abs(e) > FAR and not known(k)} == set()


def test_rests_of_blocks():
    """What a block keeps when it is cut from a larger one: 1.2% of these three, which the simulated allocator finds."""
    for case in (c for c in cases(NAME) if c["id"].startswith(RESTS)):
        p = plan(question(case))
        found = pooled(p.arch, p.load, micro_batches(p.question)).allocated
        assert abs(found / case["measured"]["peak_allocated"] - 1) <= 0.0025, case["id"]


def test_layers_skipped_at_random():
    """NLLB's measured step left out one layer of its encoder and one of its decoder."""
    case = next(c for c in cases(NAME) if c["id"].startswith("torch/nllb-600m/b4"))
    fewer = {k: case["config"][k] - 1 for k in ("encoder_layers", "decoder_layers")}
    whole, skipped = predicted(case), predicted({**case, "config": case["config"] | fewer})
    found = sum(whole.base.values()) + skipped.worst.peak - sum(skipped.base.values())
    assert abs(found / case["measured"]["peak_allocated"] - 1) <= 0.0005
    assert any("layerdrop" in line for line in plan(question(case)).said)


def test_int8():
    """LLM.int8(): within 0.1%; checkpointed (inputs that no hook sees) and reentrant too."""
    now = errors(NAME, lambda c: c["options"].get("quantization") == "int8")
    assert len(now) == 10
    mid, _, worst = spread(now)
    assert mid <= 0.0005
    assert worst <= 0.001
