"""Units: factors, dimensions, and errors that name both sides."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import InputError
from estimator.fermi.engine import points, resolve
from estimator.fermi.scenario import loads
from estimator.fermi.units import measure


def convert(amount, start: str, end: str) -> Fraction:
    a, b = measure(start, "t"), measure(end, "t")
    assert a.dim == b.dim
    return Fraction(amount) * a.factor / b.factor


@pytest.mark.parametrize(
    ("start", "end", "want"),
    [
        ("GB", "B", 10**9),
        ("GiB", "B", 2**30),
        ("TB", "MB", 10**6),
        ("Gbit", "MB", 125),
        ("TFLOP/s", "FLOP/s", 10**12),
        ("petaFLOP-day", "FLOP", 864 * 10**17),
        ("petaFLOP/s-day", "FLOP", 864 * 10**17),
        ("PF-days", "FLOP", 864 * 10**17),
        ("hours", "s", 3600),
        ("days", "hours", 24),
        ("kWh", "J", 3_600_000),
        ("MWh", "kWh", 1000),
        ("W", "J/s", 1),
        ("GW", "kW", 10**6),
        ("tCO2", "kg CO2", 1000),
        ("kg CO2/kWh", "tCO2/MWh", 1),
        ("tons CO2e", "gCO2", 10**6),
        ("USD/GPU-hour", "USD/GPU/day", 24),
        ("billion parameters", "parameters", 10**9),
        ("USD/million tokens", "USD/token", Fraction(1, 10**6)),
        ("%", "", Fraction(1, 100)),
        ("cents", "USD", Fraction(1, 100)),
        ("kg", "g", 1000),
        ("m^2", "m m", 1),
        ("year", "days", Fraction(1461, 4)),
        ("1/s", "Hz", 1),
        ("zettaFLOP", "FLOP", 10**21),
    ],
)
def test_factors(start, end, want):
    assert convert(1, start, end) == want


@pytest.mark.parametrize(
    "text", ["florb", "FLOPS", "gb", "GB//s", "/s", "GB^99", "GB^(1/0)", "GB s /", "3 GB", "x" * 100, "GB;", "GB^0.5"]
)
def test_refused(text):
    with pytest.raises(InputError) as error:
        measure(text, "t")
    assert "\n" not in str(error.value)


@given(
    st.sampled_from(["B", "FLOP", "s", "W", "J", "bit", "g"]),
    st.sampled_from(["k", "M", "G", "T", "P"]),
    st.sampled_from(["s", "GPU", "hour", "token"]),
)
@settings(max_examples=60, deadline=None)
def test_a_unit_over_itself_is_plain(base, prefix, under):
    text = f"{prefix}{base}/{under}"
    made = measure(f"{text}/{prefix}{base}", "t")
    assert made.factor * measure(under, "t").factor == 1


def solved(body: str):
    resolved = resolve(loads(f"[quantities]\n{body}", "t", "t.toml"))
    return {n: v / resolved.units[n].factor for n, v in points(resolved).items()}


def test_conversion_is_automatic():
    got = solved('a = "1 GiB"\nb = "1 GB"\nc = "= a + b in MB"\nd = "= c / t"\nt = "2 minutes"')
    assert got["c"] == Fraction(2**30 + 10**9, 10**6)
    assert got["d"] == Fraction(2**30 + 10**9, 120)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('a = "1 GB"\nb = "2 USD"\nc = "= a + b"', ("bytes (a)", "USD (b)")),
        ('a = "1 GB"\nb = "= a - 2"', ("plain number (2)", "bytes (a)")),
        ('a = "3 tokens"\nb = "2 words"\nc = "= max(a, b)"', ("tokens (a)", "words (b)")),
        ('a = "1 GB"\nb = "= a in USD"', ("bytes", "USD")),
        ('a = "1 GB"\nb = "= log(a)"', ("bytes",)),
        ('a = "1 GB"\nn = 2\nb = "= a ** n"', ("bytes",)),
        ('a = "1 GB"\nb = "= 2 ** a"', ("bytes",)),
    ],
)
def test_mixed_units_name_both(body, words):
    with pytest.raises(InputError) as error:
        solved(body)
    assert all(w in str(error.value) for w in words), str(error.value)


def test_a_scenario_declares_its_own_units():
    text = (
        '[units]\npiano = ""\nfortnight = "14 days"\n[quantities]\na = "3 pianos/fortnight"\nb = "= a in pianos/week"'
    )
    resolved = resolve(loads(text, "t", "t.toml"))
    assert points(resolved)["b"] / resolved.units["b"].factor == Fraction(3, 2)
