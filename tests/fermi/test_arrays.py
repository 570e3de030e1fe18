"""Samples with numpy: the same floats as one by one, the same report to the byte."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random
from statistics import NormalDist

import numpy as np
import pytest

from estimator import api
from estimator.fermi import arrays
from estimator.fermi.engine import MAX_SAMPLES
from estimator.fermi.ranges import Interval

INTERVALS = [
    Interval("lognormal", Fraction(3, 10), Fraction(70)), Interval("normal", Fraction(-1), Fraction(3)),
    Interval("uniform", Fraction(1), Fraction(4)), Interval("triangular", Fraction(1), Fraction(4), Fraction(2)),
]  # fmt: skip


@pytest.mark.parametrize("interval", INTERVALS, ids=lambda i: i.kind)
def test_the_same_draws(interval):
    found, strata = arrays.sample(interval, 40_000, Random("7/price"))
    assert found.tolist() == interval.sample(40_000, Random("7/price"))
    assert arrays.ranks(found, strata).tolist() == arrays.ranks(found).tolist()


@pytest.mark.parametrize("count", [2, 1000, 100_000])
def test_the_order_of_draws(count):
    keys = np.random.default_rng(1).random(count)
    for made in (keys, np.round(keys, 2), keys * 2.0**-50):  # different, many alike, alike in their leading bits
        assert (arrays.order_of(made) == np.argsort(made, kind="stable")).all()


def test_exponentials_are_pythons(monkeypatch):
    for most in (1e-3, 5.0, 709.0):
        x = np.random.default_rng(2).uniform(-most, most, 40_000)
        assert arrays.exponentials(x).tolist() == [math.exp(v) for v in x.tolist()]
    with pytest.raises(OverflowError):
        arrays.exponentials(np.array([1.0, 710.0]))
    monkeypatch.setattr(np, "exp", lambda x: x)
    assert arrays.exponentials(x).tolist() == [math.exp(v) for v in x.tolist()]


def test_quantiles_are_the_librarys():
    ends = 10.0 ** -np.arange(1, 15)
    shares = np.concatenate((np.linspace(0.001, 0.999, 5001), ends, ends**20, 1 - ends))
    assert arrays.normal(shares).tolist() == [NormalDist().inv_cdf(u) for u in shares.tolist()]


def test_a_machine_that_rounds_otherwise_takes_the_library(monkeypatch):
    monkeypatch.setattr(arrays, "ABOVE", (2.6e3, *arrays.ABOVE[1:]))
    shares = np.linspace(0.001, 0.999, 999)
    assert arrays.normal(shares).tolist() == [NormalDist().inv_cdf(u) for u in shares.tolist()]


@pytest.mark.parametrize("scenario", ["gpt4-cost", "gpt6", "serve-million"])
def test_the_same_report(scenario, monkeypatch):
    many = api.fermi(scenario, count=arrays.FROM)
    monkeypatch.setattr(arrays, "FROM", MAX_SAMPLES + 1)
    one_by_one = api.fermi(scenario, count=20_000)
    assert many.results() == one_by_one.results()
    assert api.to_text(many, detail=True) == api.to_text(one_by_one, detail=True)


def test_ranks_of_equal_values():
    values = np.array([3.0, 1.0, 3.0, 2.0])
    assert arrays.ranks(values).tolist() == [5, 0, 5, 2]
    for strata in ([2, 0, 3, 1], [3, 0, 2, 1], [0, 1, 2, 3]):  # two that are alike, and an order that is none
        assert arrays.ranks(values, np.array(strata, dtype=np.int32)).tolist() == [5, 0, 5, 2]
    assert arrays.correlation(arrays.ranks(values), arrays.ranks(-values)) == -1.0
    assert arrays.correlation(arrays.ranks(values), arrays.ranks(values * 0)) == 0.0


def test_a_million(llmcalc):
    ran = llmcalc("fermi gpt3-cost --samples 1000000")
    assert "1,000,000 samples" in ran.out
    assert "--samples must be 2 to 10,000,000" in llmcalc("fermi gpt3-cost --samples 10000001").err
