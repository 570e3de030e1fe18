"""What holds for every adapter whatever the sizes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.config import Config
from estimator.families import build
from estimator.formulas.peft import lora_params, rank_for
from estimator.peft.asked import build_adapter
from estimator.peft.lokr import factors
from estimator.peft.oft import nearest_divisor

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6).map(lambda x: 8 * x), st.integers(1, 40))


def adapter(L, d, method, rank=None, targets=("q_proj", "down_proj"), **args):
    raw = {"model_type": "symbolic", "num_hidden_layers": L, "hidden_size": d, "num_attention_heads": 8}
    return build_adapter(build(Config(raw)), "textbook", raw, method, rank, list(targets), args)


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_lora_is_its_formula_in_every_layer(sizes):
    L, d, r = sizes
    assert adapter(L, d, "lora", r).trained == L * (lora_params(d, d, r) + lora_params(4 * d, d, r))


@given(SIZES, st.sampled_from(["lora", "dora", "vera", "loha", "lokr", "delora", "hira", "adalora", "peanut"]))
@settings(max_examples=60, deadline=None)
def test_a_higher_rank_never_trains_less(sizes, method):
    L, d, r = sizes
    assert adapter(L, d, method, r).trained <= adapter(L, d, method, r + 1).trained


@given(SIZES, st.sampled_from(["lora", "vera", "vblora", "osf", "tinylora", "frod"]))
@settings(max_examples=40, deadline=None)
def test_totals_are_the_sum_of_tensors(sizes, method):
    L, d, _ = sizes
    extra = {"vblora": {"vector_length": 8}}.get(method, {})
    a = adapter(L, d, method, 2 if method != "frod" else None, **extra)
    assert a.added_trained + a.frozen == sum(t.elements for t in a.tensors)
    assert all(isinstance(x, int) for x in (a.trained, a.frozen, a.saved))


@given(st.integers(1, 10**6), st.integers(-1, 64).filter(lambda f: f != 0))
def test_kronecker_factors_multiply_to_the_size(n, factor):
    small, large = factors(n, factor)
    assert small * large == n


@given(st.integers(1, 5000), st.integers(1, 6000))
def test_the_nearest_divisor_divides(n, wanted):
    assert n % nearest_divisor(n, wanted) == 0


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_the_rank_for_a_budget_is_the_largest(budget, step):
    r = rank_for(budget, 0, step)
    assert r * step <= budget < (r + 1) * step
