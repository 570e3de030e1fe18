"""Steps to which what was found on the blind ones applies: other models, methods and optimizers, predicted first.

Of 20 predicted before they were measured two were off by more than 0.5%: dropouts that are calls, which TRL does not
set to 0, and an encoder's states that accelerate copies to fp32. Both are mended.
"""

from __future__ import annotations

from estimator.commands.memory.plan import plan
from estimator.commands.memory.stack import NOT_COMPILED, micro_batches
from estimator.moments.pooled import pooled
from tests.accuracy.test_stacks import cases, predicted, question, spread
from tests.accuracy.test_stacks_blind import COMPILED
from tests.accuracy.test_stacks_blind import NAME as BLIND

NAME = "stacks_brothers"


def plain(late):
    return [c for c in cases(NAME) if COMPILED not in c["id"] and c["late"] is late]


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


def compiled(decoders):
    """Compiled steps of this file and of the blind ones: those that are described, or the others."""
    steps = [c for name in (NAME, BLIND) for c in cases(name) if COMPILED in c["id"]]
    return off([c for c in steps if (NOT_COMPILED not in plan(question(c)).said) is decoders])


def test_compiled_decoders():
    """Mechanisms that were found on these: experts, eager attention, LoRA outside autocast, untied heads, a fused
    product's values, heads that no fused kernel takes. Of ten drawn later six were within 1.3% as first predicted."""
    found = compiled(True)
    assert len(found) == 20
    mid, _, worst = spread(found)
    assert mid <= 0.003
    assert worst <= 0.013
    later = [c for c in cases(NAME) if COMPILED in c["id"] and c["late"]]
    first = [abs(c["before"] / c["measured"]["peak_allocated"] - 1) for c in later]
    assert len(first) == 10
    assert sum(e <= 0.013 for e in first) == 6


def test_compiled_steps_that_are_not_described():
    """Counted as they run without: the note says how far off six were."""
    found = sorted(-e / (1 + e) for e in compiled(False).values())
    assert len(found) == 6
    assert -0.33 <= found[0] <= found[-1] <= 0.06
    assert "from 33% less to 6% more" in NOT_COMPILED
