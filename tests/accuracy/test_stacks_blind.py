"""Blind steps: drawn by a script over all that one card offers, predicted, then measured on one H200.

Of 78 drawn first the mechanisms that they showed to be missing were mended; 41 more (``late``) were measured before
that and looked at after (a slip in the new code for LLM.int8() and EuroBERT's loss were found on them). What is still
far off is named below, with its cause where it is known.
"""

from __future__ import annotations

from tests.accuracy.test_stacks import cases, errors, spread

NAME = "stacks_blind"
COMPILED = "/compile"
FAR = 0.007
# model/method -> why it is still off by more than FAR; compiled steps that were not looked at are apart
KNOWN = {
    "trainer/olmo2-7b-l4": "GaLore of all-linear projects the output matrix too, here attention and MLP are",
    "trainer/phi-1.5-l10/b1s1024": "APOLLO of all-linear, as above",
    "trainer/ministral-s": "HRA keeps a matrix for each reflection: not simulated",
    "trainer/bitnet-s": "RoAd keeps its rotated outputs in fp32: not simulated",
    "torch/command-r7b-l2": "BOFT: not simulated",
    "torch/nllb-600m/b4": "layers are skipped at random (layerdrop)",
    "dpo/gemma4-text": "the wide layers of the half that shares keys",
    "trainer/doge": "LOMO under the Trainer",
    "trainer/umt5-base": "rests of blocks",
    "trainer/mpnet-base": "rests of blocks",
    "torch/deberta-v3": "rests of blocks",
    "trainer/flan-t5-large/b1": "not found",
    "sft/apertus-l4": "not found",
    "sft/glm4-moe-s/b2": "not found",
    "torch/glm4-moe-s": "not found",
    "torch/granite-hybrid/b1s1024": "not found",
    "dpo/starcoderbase-1b": "not found",
    "reward/mpt-7b-l4": "not found",
    "trainer/seed-oss-s": "not found",
}


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


def test_int8():
    """LLM.int8(): within 1% but for Granite's hybrid; checkpointed (inputs that no hook sees) and reentrant too."""
    now = errors(NAME, lambda c: c["options"].get("quantization") == "int8")
    assert len(now) == 10
    mid, _, worst = spread(now)
    assert mid <= 0.0005
    assert worst <= 0.02
