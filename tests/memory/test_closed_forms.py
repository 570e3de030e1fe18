"""The closed forms of the formulas page are what the optimizers add up tensor by tensor; one rule for contexts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.formulas import optimizer as f
from estimator.formulas.flops import product_flops
from estimator.optimizers import EIGHT_BIT_LEAST, Trained, find_optimizer
from estimator.work.product import Product

SIDES = st.integers(1, 10_000)
COUNTER = 4  # a step counter beside the states of some optimizers: one fp32 number


@given(SIDES, SIDES, st.sampled_from([2, 4]))
def test_states_are_the_closed_forms(rows, columns, width):
    p, n = Trained((rows, columns), width, 1), rows * columns
    assert sum(find_optimizer("adamw").states(p)) == f.adam_state_bytes(n, width)
    assert sum(find_optimizer("adamw-fused").states(p)) == f.adam_state_bytes(n, width) + COUNTER
    assert sum(find_optimizer("sgd-momentum").states(p)) == f.momentum_state_bytes(n, width)
    assert sum(find_optimizer("lion").states(p)) == f.momentum_state_bytes(n, width)
    assert sum(find_optimizer("adafactor").states(p)) == f.adafactor_state_bytes(rows, columns, width) + COUNTER
    if n >= EIGHT_BIT_LEAST:
        assert sum(find_optimizer("adamw8bit").states(p)) == f.adam8bit_state_bytes(n)


@given(SIDES, SIDES, SIDES)
def test_a_product_is_its_closed_form(m, k, n):
    assert Product("x", "MLP", m, k, n).flops() == product_flops(m, k, n)


@pytest.mark.parametrize("command", ["memory", "infer", "kvcache"])
def test_a_context_that_was_not_measured_is_a_stated_guess(llmcalc, command):
    said = llmcalc(f"{command} --gpu a100-80gb --format json").json["assumptions"]
    assert "a100-80gb: its CUDA context was not measured; guessed at 0.29 to 0.88 GiB" in said
