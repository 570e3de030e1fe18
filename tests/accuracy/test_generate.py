"""Predicted peaks beside transformers' generate(): 211 drawn settings of 121 models, whole or cut, on one H200.

Of the first half 5 in 100 were off by more than 14%: experts, of which generate() decodes with copies, fp16 scores that
are no fp32 ones, LLM.int8()'s buffers, keys that Cohere turns beside queries in fp32. Those were mended, and the second
half (``late``) predicted and measured: encoder-decoders, whose decoder begins with one token, Falcon's alibi and
CodeGen's scores were off by up to 42%, 95 in 100 by less than 3.5%.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from estimator.commands.memory.plan import plan, simulate
from estimator.families.base import MoE
from tests.accuracy.test_stacks import cases, question, spread

NAME = "generate"
DECODE = "moments.decode_bytes"


def before(late):
    """id -> the error of the peak as it was predicted before it was measured."""
    return {c["id"]: c["before"] / c["measured"]["peak_allocated"] - 1 for c in cases(NAME) if c["late"] is late}


def now(late):
    return {
        c["id"]: outcome(c).worst.peak / c["measured"]["peak_allocated"] - 1 for c in cases(NAME) if c["late"] is late
    }


def outcome(case):
    """A process that has run no backward pass holds one of cuBLAS's workspaces."""
    made = plan(question(case))
    made.load = replace(made.load, threads=1)
    return simulate(made)


@pytest.mark.parametrize("late", [False, True])
def test_peaks(late):
    off = now(late)
    assert len(off) == (117 if late else 94)
    mid, p95, worst = spread(off)
    assert mid <= 0.002
    assert p95 <= 0.025
    assert worst <= 0.04


def test_decode_of_experts():
    """Each routed token's experts are copied; without that these decode steps would be up to 41% too low."""
    off = {
        c["id"]: next(m.peak for m in outcome(c).moments if m.key == DECODE) / c["measured"]["decode"] - 1
        for c in cases(NAME) if any(isinstance(x.mlp, MoE) for x in question(c).model.architecture.layers)
    }  # fmt: skip
    assert len(off) >= 40
    mid, p95, worst = spread(off)
    assert mid <= 0.003
    assert p95 <= 0.025
    assert worst <= 0.025
