"""Values and ranges as people write them, and the distributions that ranges mean.

``100 GB``                                   a number
``between 50 and 250 USD/tCO2``              5th and 95th percentile; log-normal where both are positive, else normal
``normal between -1 and 3``                  the same, normal
``uniform between 1 and 4 USD/GPU-hour``     the two ends, all between equally likely
``triangular between 1 and 4, mode 2``       the two ends and the likeliest value
``gpu:h200.memory``                          a figure of a GPU preset; ``gpu:h200.prices`` is the range of its prices
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from random import Random
from statistics import NormalDist

from estimator.errors import InputError, unknown
from estimator.fermi.numbers import Number, parse_number, shorten, square_root
from estimator.fermi.units import WORDS, Measure, dim_text, measure
from estimator.records import dataclass

KINDS = ("lognormal", "normal", "uniform", "triangular")
LOW, MIDDLE, HIGH = 0.05, 0.5, 0.95
MAX_TEXT = 200
_Z = NormalDist()
Z_HIGH = _Z.inv_cdf(HIGH)


@dataclass(frozen=True, slots=True)
class Interval:
    """An uncertain value in base units. ``low``, ``high``: percentiles 5 and 95, or the ends (uniform, triangular)."""

    kind: str
    low: Fraction
    high: Fraction
    mode: Fraction | None = None

    @property
    def point(self) -> Number:
        """The median (the mode of a triangle): what the chain uses as the range's single value."""
        if self.kind == "lognormal":
            return square_root(self.low * self.high)
        if self.kind == "triangular" and self.mode is not None:
            return self.mode
        return (self.low + self.high) / 2

    @property
    def certain(self) -> bool:
        """True where the range has no width."""
        return self.low == self.high

    def quantiles(self) -> Callable[[float], float]:
        """The quantile function: the value below which a share u of the distribution lies, 0 < u < 1."""
        a, b, z = float(self.low), float(self.high), _Z.inv_cdf
        if self.kind == "uniform":
            return lambda u: a + (b - a) * u
        if self.kind == "triangular":
            c = float(self.point)
            left, right = (b - a) * (c - a), (b - a) * (b - c)
            share = (c - a) / (b - a) if b > a else 1.0
            return lambda u: a + math.sqrt(u * left) if u < share else b - math.sqrt((1 - u) * right)
        # z is Z_HIGH at the 95th percentile
        if self.kind == "normal":
            middle, sigma = (a + b) / 2, (b - a) / 2 / Z_HIGH
            return lambda u: middle + sigma * z(u)
        middle, sigma = (math.log(a) + math.log(b)) / 2, (math.log(b) - math.log(a)) / 2 / Z_HIGH
        exp = math.exp
        return lambda u: exp(middle + sigma * z(u))

    def quantile(self, u: float) -> float:
        """The value below which a share ``u`` of the distribution lies, 0 < u < 1."""
        return self.quantiles()(u)

    def percentile(self, u: float) -> Number:
        """``quantile``, exact where the range was given by that very percentile or has no width."""
        if self.certain or (self.kind in ("lognormal", "normal") and u in (LOW, HIGH)):
            return self.high if u == HIGH else self.low
        return self.quantile(u)

    def sample(self, count: int, random: Random) -> list[float]:
        """``count`` draws, one from each of ``count`` equally likely strata, in random order (Latin hypercube)."""
        draw, quantile = random.random, self.quantiles()
        keys = [draw() for _ in range(count)]
        strata = sorted(range(count), key=keys.__getitem__)
        return [quantile((i + (draw() or 0.5)) / count) for i in strata]


@dataclass(frozen=True, slots=True)
class Value:
    """A number or a range, both in base units, and the unit it was written in (None: none was written)."""

    point: Number
    range: Interval | None
    unit: Measure | None
    source: str = ""


_NUM = r"[+-]?(?:\d[\d_]*(?:,\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_SINGLE = re.compile(rf"^\s*(?P<value>{_NUM})\s*(?P<unit>.*)$", re.DOTALL)
_RANGE = re.compile(
    rf"^\s*(?:(?P<kind>[a-z-]+)\s+)?between\s+(?P<low>{_NUM})\s*(?P<lowunit>[^\d\s].*?)?\s+and\s+(?P<high>{_NUM})"
    rf"(?P<unit>[^,]*?)(?:\s*,\s*mode\s+(?P<mode>{_NUM}))?\s*$",
    re.DOTALL,
)


def parse_value(text: str, where: str, declared: Measure | None, own: dict[str, Measure] | None = None) -> Value:
    """A value or range from its text; a unit in the text must have the ``declared`` unit's dimension.

    Without a unit in the text the declared one holds; without either it is a plain number.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"{where}: a value of {len(text)} characters; at most {MAX_TEXT}")
    if text.strip().startswith("gpu:"):
        return _from_preset(text.strip(), where, declared)
    found = _RANGE.match(text)
    if found:
        return _parse_range(found, text, where, declared, own)
    if "between" in text:
        raise InputError(f"{where}: cannot read the range {shorten(text)!r}. Write: between 50 and 250 USD")
    single = _SINGLE.match(text)
    if not single:
        raise InputError(
            f"{where}: {shorten(text)!r} is not a value. "
            "Examples: 1.98e15, 100 GB, between 50 and 250 USD, gpu:h200.memory"
        )
    unit = _unit(single["unit"], where, declared, own)
    return Value(parse_number(single["value"], where) * unit.factor, None, _written(single["unit"], unit, where, own))


def _unit(text: str | None, where: str, declared: Measure | None, own: dict[str, Measure] | None) -> Measure:
    if not (text or "").strip():
        return declared or measure("", where)
    unit = measure(text or "", where, own)
    if declared is not None and unit.dim != declared.dim:
        wanted = f"{declared.text or 'a plain number'!r} measures {dim_text(declared.dim)}"
        raise InputError(f"{where}: {shorten(text or '')!r} measures {dim_text(unit.dim)}, but {wanted}")
    return unit


def _parse_range(
    found: re.Match[str], text: str, where: str, declared: Measure | None, own: dict[str, Measure] | None
) -> Value:
    unit = _unit(found["unit"], where, declared, own)
    low_unit = _unit(_low_unit(found["lowunit"], found["unit"]), where, unit, own) if found["lowunit"] else unit
    low = parse_number(found["low"], where) * low_unit.factor
    high = parse_number(found["high"], where) * unit.factor
    mode = parse_number(found["mode"], where) * unit.factor if found["mode"] else None
    spread = make_range(found["kind"], low, high, mode, where, text)
    return Value(spread.point, spread, _written(found["unit"], unit, where, own))


def _written(text: str | None, unit: Measure, where: str, own: dict[str, Measure] | None) -> Measure | None:
    """The unit that a value was written in, without a leading scale: ``7 billion parameters`` counts parameters."""
    first, _, rest = (text or "").strip().partition(" ")
    if first in WORDS:
        return measure(rest, where, own)
    return unit if first else None


def _low_unit(low: str, high: str) -> str:
    """``between 1 million and 3 billion tokens``: the first number's unit is million tokens."""
    if low.strip() not in WORDS:
        return low
    return " ".join([low.strip(), *(word for word in high.split() if word not in WORDS)])


def make_range(
    kind: str | None, low: Fraction, high: Fraction, mode: Fraction | None, where: str, text: str
) -> Interval:
    """A checked Range; ``kind`` None chooses log-normal where both ends are positive, normal otherwise."""
    kind = (kind or "").replace("-", "") or ("triangular" if mode is not None else "lognormal" if low > 0 else "normal")
    if kind not in KINDS:
        raise unknown("distribution", kind, KINDS, f"In {where}")
    if low > high:
        raise InputError(f"{where}: the range {shorten(text, 60)!r} is upside down: the smaller number comes first")
    if kind == "lognormal" and low <= 0:
        raise InputError(
            f"{where}: a log-normal range must be positive, got {shorten(text, 60)!r}; write 'normal between ...'"
        )
    if mode is not None and (kind != "triangular" or not low <= mode <= high):
        raise InputError(f"{where}: the mode must lie inside a triangular range, got {shorten(text, 60)!r}")
    return Interval(kind, low, high, mode)


_PRESET = re.compile(r"^gpu:(?P<gpu>[A-Za-z0-9][A-Za-z0-9 _.-]*?)\.(?P<field>[a-z0-9-]+)$")
_COMPUTE = ("fp32", "tf32", "fp16", "bf16", "fp8", "fp6", "fp4", "int8")


def _from_preset(text: str, where: str, declared: Measure | None) -> Value:
    from estimator.presets import load_gpu

    match = _PRESET.match(text)
    if not match:
        raise InputError(
            f"{where}: {shorten(text)!r}; a preset's figure is written gpu:NAME.FIELD, as in gpu:h200.memory"
        )
    spec, name = load_gpu(match["gpu"]), match["field"]
    source = f"GPU preset {spec.id}"
    if name in ("price", "prices"):
        return _preset_price(spec, name, where, declared)
    dtype, _, sparse = name.partition("-")
    figures: dict[str, tuple[object, str]] = {
        "memory": (spec.memory.sold_gb, "GB/GPU"),
        "bandwidth": (spec.bandwidth.gb_s, "GB/s/GPU"),
        "power": (spec.power and spec.power.tdp_w, "W/GPU"),
    }
    if dtype in _COMPUTE and sparse in ("", "sparse"):
        peak = getattr(spec.compute, dtype, None)
        factor = spec.compute.sparsity if spec.compute and sparse else 1
        figures[name] = (peak and Fraction(str(peak)) * factor, "TFLOP/s/GPU")
        source += f": {'with 2:4 sparsity' if sparse else 'dense'} {dtype}"
    if name not in figures:
        raise unknown(
            "figure", name, [*figures, *_COMPUTE, "bf16-sparse", "price", "prices"], f"In {where}: {shorten(text)}"
        )
    amount, unit_text = figures[name]
    if not amount:
        raise InputError(f"{where}: the preset {spec.id} states no {name}")
    unit = _unit(unit_text, where, declared, None)
    return Value(Fraction(str(amount)) * unit.factor, None, unit, source)


def _preset_price(spec: object, name: str, where: str, declared: Measure | None) -> Value:
    prices = sorted(getattr(spec, "prices", ()), key=lambda p: p.usd_per_hour)
    if not prices:
        raise InputError(f"{where}: the preset {getattr(spec, 'id', '')} states no price")
    unit = _unit("USD/GPU-hour", where, declared, None)
    each = [Fraction(str(p.usd_per_hour)) * unit.factor for p in prices]
    middle = (each[(len(each) - 1) // 2] + each[len(each) // 2]) / 2
    dates = sorted(p.date for p in prices)
    source = f"GPU preset {getattr(spec, 'id', '')}: median of {len(each)} prices, {dates[0]} to {dates[-1]}"
    spread = Interval("lognormal", each[0], each[-1]) if name == "prices" and each[0] < each[-1] else None
    return Value(middle, spread, unit, source)
