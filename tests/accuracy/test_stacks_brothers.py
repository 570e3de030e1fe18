"""Steps to which what was found on the blind ones applies: other models, methods and optimizers, predicted first.

Of 20 predicted before they were measured two were off by more than 0.5%: dropouts that are calls, which TRL does not
set to 0, and an encoder's states that accelerate copies to fp32. Both are mended.
"""

from __future__ import annotations

from estimator.commands.memory.plan import plan
from estimator.commands.memory.stack import COMPILED, COMPILED_SIDES, NOT_COMPILED, micro_batches
from estimator.moments.pooled import pooled
from tests.accuracy.test_stacks import cases, predicted, question, spread
from tests.accuracy.test_stacks_blind import COMPILED as COMPILED_ID
from tests.accuracy.test_stacks_blind import NAME as BLIND

NAME = "stacks_brothers"
SIDES = "stacks_compiled"


def plain(late):
    return [c for c in cases(NAME) if COMPILED_ID not in c["id"] and c["late"] is late]


def off(found):
    return {c["id"]: predicted(c).worst.peak / c["measured"]["peak_allocated"] - 1 for c in found}


def test_brothers():
    found = plain(False)
    was = spread({c["id"]: c["before"] / c["measured"]["peak_allocated"] - 1 for c in found})
    assert len(found) == 20
    assert was[0] <= 0.00025
    assert was[2] > 0.036
    mid, _, worst = spread(off(found))
    assert mid <= 0.0002
    assert worst <= 0.007


def test_brothers_drawn_later():
    """Seven more, when those had been mended: within 0.17% as first predicted."""
    found = plain(True)
    was = spread({c["id"]: c["before"] / c["measured"]["peak_allocated"] - 1 for c in found})
    mid, _, worst = spread(off(found))
    assert len(found) == 7
    assert was[2] <= 0.0017
    assert mid <= 0.0005
    assert worst <= 0.0017


def test_rests_of_blocks():
    """What is off by more than 0.3% are rests of blocks; of one the simulated allocator finds too many."""
    far = [c for c in plain(False) if abs(off([c])[c["id"]]) > 0.003]
    assert len(far) == 2
    for case in far:
        p = plan(question(case))
        found = pooled(p.arch, p.load, micro_batches(p.question)).allocated
        assert -0.003 <= found / case["measured"]["peak_allocated"] - 1 <= 0.006, case["id"]


def compiled(note, *names):
    """Compiled steps of the files, by default of this one and the blind ones, whose answer says ``note``."""
    steps = [c for name in names or (NAME, BLIND) for c in cases(name) if COMPILED_ID in c["id"]]
    return off([c for c in steps if note in plan(question(c)).said])


def test_compiled_decoders():
    """Mechanisms that were found on these: experts, eager attention, LoRA outside autocast, untied heads, a fused
    product's values, heads that no fused kernel takes. Of ten drawn later six were within 1.3% as first predicted."""
    found = compiled(COMPILED)
    assert len(found) == 20
    mid, _, worst = spread(found)
    assert mid <= 0.003
    assert worst <= 0.013
    later = [c for c in cases(NAME) if COMPILED_ID in c["id"] and c["late"]]
    first = [abs(c["before"] / c["measured"]["peak_allocated"] - 1) for c in later]
    assert len(first) == 10
    assert sum(e <= 0.013 for e in first) == 6


def test_compiled_encoders_and_encoder_decoders():
    """Sixteen steps, of which what inductor keeps was read off its generated code before they were measured, and the
    four that were counted as they run without it. As then counted half were off by more than 11%."""
    found = compiled(COMPILED_SIDES, NAME, BLIND, SIDES)
    assert len(found) == 20
    mid, _, worst = spread(found)
    assert mid <= 0.01
    assert worst <= 0.04
    was = spread({c["id"]: c["before"] / c["measured"]["peak_allocated"] - 1 for c in cases(SIDES)})
    assert was[0] > 0.11
    assert "within 4% of all and 1% of half" in COMPILED_SIDES


def test_traced_steps_as_predicted():
    """Bytes over the start as traced, with no product padded: within 2.4% where the vocabulary needs no padding."""
    steps = cases(SIDES)
    far = {c["id"]: abs(c["traced"] + c["measured"]["start"] - c["measured"]["passes"]) / c["measured"]["passes"]
           for c in steps}  # fmt: skip
    assert max(far.values()) <= 0.106
    whole = [far[c["id"]] for c in steps if not any(chosen for *_, chosen in c["padded"])]
    assert len(whole) == 7
    assert sorted(whole)[-2] <= 0.016


def test_compiled_steps_that_are_not_described():
    """Counted as they run without: the note says how far off two were."""
    found = sorted(-e / (1 + e) for e in compiled(NOT_COMPILED).values())
    assert len(found) == 2
    assert -0.33 <= found[0] <= found[-1] <= 0.06
    assert "from 33% less to 6% more" in NOT_COMPILED
