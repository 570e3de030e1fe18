"""Steps with adapters of peft 0.21.2, drawn by a script, predicted first and measured after on one H200.

The first draw's cases (no ``/second`` in their names) were predicted once every layer was held to the allocator's
record; 64 of them showed what stands on the card beside SHiRA's values and PSOFT's directions, and that RandLoRA's base
is not copied. The others, and the second draw, were predicted with that and measured after.
"""

from __future__ import annotations

from functools import cache
from statistics import median

from estimator.commands.memory.plan import plan, simulate
from estimator.moments.pooled import pooled
from tests.accuracy.test_stacks import cases, question

NAME = "peft_steps"
FAR = 0.007
REST = 0.005  # what is left of a rest of blocks where the allocator is simulated
# what is off by more than FAR and no rest of blocks: its cause
KNOWN = {
    "prefix_tuning/0/torch/smollm2-360m-l9/bf16-none": "the mask of the prefix",
    "prefix_tuning/1/torch/smollm2-360m-l9/bf16-bf16/second": "the mask of the prefix",
    "trainable_tokens/0/trainer/gemma-2b-l4/bf16-none": "a table of trained rows is not simulated",
    "trainable_tokens/0/trainer/smollm2-360m-l9/bf16-none/second": "as above",
    "trainable_tokens/1/trainer/smollm2-360m-l9/fp32-none/second": "as above",
}


@cache
def found() -> dict[str, float]:
    return {c["id"]: simulate(plan(question(c))).worst.peak / c["measured"] - 1 for c in cases(NAME)}


def test_most_are_exact() -> None:
    now = found()
    assert len(now) == 155
    assert median(abs(e) for e in now.values()) <= 0.001


def test_as_first_predicted() -> None:
    """Of the second draw: the median, and the worst of what has linear targets."""
    was = {c["id"]: c["before"] / c["measured"] - 1 for c in cases(NAME) if c["id"].endswith("/second")}
    assert median(abs(e) for e in was.values()) <= 0.001
    assert max(abs(e) for k, e in was.items() if k not in KNOWN) <= 0.013


def test_what_is_off_is_rests_of_blocks_or_named() -> None:
    """A block that is cut from a larger one keeps its rest; the simulated allocator finds it."""
    far = {k for k, e in found().items() if abs(e) > FAR}
    assert set(KNOWN) <= far
    for case in (c for c in cases(NAME) if c["id"] in far - set(KNOWN)):
        p = plan(question(case))
        assert abs(pooled(p.arch, p.load).allocated / case["measured"] - 1) <= REST, case["id"]
