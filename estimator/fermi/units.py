"""Units of Fermi chains: dimensions, conversion factors, and the text of units as people write them.

A unit is a factor (exact) and a dimension: bytes, FLOP, seconds, USD, joules, kg, kg of CO2, kelvin, and whatever is
counted: parameters, tokens, words, GPUs ... Different things have different dimensions, so that ``tokens + words``
is an error. Grammar: ``A/B/C`` divides left to right, a space or a hyphen multiplies and binds tighter
(``USD/GPU-hour``), ``^2`` or ``^0.5`` is a power.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from estimator.errors import InputError, unknown
from estimator.fermi.numbers import shorten
from estimator.records import dataclass
from estimator.units import KIBI, KILO, SECONDS_PER_DAY, SECONDS_PER_HOUR

Dim = tuple[tuple[str, Fraction], ...]  # sorted (base, exponent); () is a plain number
PLAIN: Dim = ()
MAX_TEXT = 80
MAX_EXPONENT = 10


@dataclass(frozen=True, slots=True)
class Measure:
    """A unit: ``text`` as written, ``factor`` to base units (bytes, FLOP, s, USD, J, kg ...), dimension."""

    text: str
    factor: Fraction
    dim: Dim


def times(a: Dim, b: Dim, sign: int = 1) -> Dim:
    """The dimension of a product (``sign=-1``: of a quotient)."""
    out = dict(a)
    for base, exponent in b:
        out[base] = out.get(base, Fraction(0)) + sign * exponent
    return tuple(sorted((k, v) for k, v in out.items() if v))


def raised(a: Dim, exponent: Fraction) -> Dim:
    """The dimension of a power."""
    return tuple((k, v * exponent) for k, v in a) if exponent else PLAIN


_BASE_NAMES = {"B": "bytes", "s": "seconds", "kgCO2": "kg CO2", "J": "joules", "K": "kelvin", "m": "metres"}
_INVARIANT = {"FLOP", "USD", "EUR", "kg", "kgCO2", "K"}


def dim_text(dim: Dim) -> str:
    """A dimension for an error message: ``bytes``, ``FLOP/seconds``, ``a plain number``."""
    if not dim:
        return "a plain number"
    top = [(_BASE_NAMES.get(b, b + "s" if b not in _INVARIANT else b), e) for b, e in dim if e > 0]
    low = [(b if b not in ("B", "s") else {"B": "byte", "s": "second"}[b], -e) for b, e in dim if e < 0]
    word = [n if e == 1 else f"{n}^{e}" for n, e in top] or ["1"]
    return " ".join(word) + "".join("/" + (n if e == 1 else f"{n}^{e}") for n, e in low)


def natural(dim: Dim) -> Measure:
    """The unit of a formula that names none: base units, in the order a person would write them."""
    top = [b if e == 1 else f"{b}^{e}" for b, e in dim if e > 0]
    low = [b if e == -1 else f"{b}^{-e}" for b, e in dim if e < 0]
    text = (" ".join(top) or ("1" if low else "")) + "".join("/" + x for x in low)
    return Measure(text, Fraction(1), dim)


_SI = {
    "k": 3,
    "K": 3,
    "M": 6,
    "G": 9,
    "T": 12,
    "P": 15,
    "E": 18,
    "Z": 21,
    "Y": 24,
    "R": 27,
    "Q": 30,
    "m": -3,
    "u": -6,
    "µ": -6,
    "n": -9,
    "p": -12,
}
_LONG = {
    "kilo": 3,
    "mega": 6,
    "giga": 9,
    "tera": 12,
    "peta": 15,
    "exa": 18,
    "zetta": 21,
    "yotta": 24,
    "milli": -3,
    "micro": -6,
    "nano": -9,
}
_BINARY = {f"{letter}i": KIBI ** (i + 1) for i, letter in enumerate("KMGTPE")}
_YEAR = Fraction(SECONDS_PER_DAY) * Fraction(1461, 4)

# spelling -> (factor, base). Singular; a plural s is understood
_TABLE: dict[str, tuple[Fraction | int, str]] = {
    "B": (1, "B"), "byte": (1, "B"), "bit": (Fraction(1, 8), "B"), "FLOP": (1, "FLOP"), "flop": (1, "FLOP"),
    "s": (1, "s"), "sec": (1, "s"), "second": (1, "s"), "min": (60, "s"), "minute": (60, "s"),
    "h": (SECONDS_PER_HOUR, "s"), "hr": (SECONDS_PER_HOUR, "s"), "hour": (SECONDS_PER_HOUR, "s"),
    "day": (SECONDS_PER_DAY, "s"), "week": (7 * SECONDS_PER_DAY, "s"), "month": (_YEAR / 12, "s"),
    "year": (_YEAR, "s"), "yr": (_YEAR, "s"),
    "USD": (1, "USD"), "$": (1, "USD"), "dollar": (1, "USD"), "cent": (Fraction(1, 100), "USD"),
    "EUR": (1, "EUR"), "euro": (1, "EUR"), "J": (1, "J"), "joule": (1, "J"), "Wh": (SECONDS_PER_HOUR, "J"),
    "g": (Fraction(1, KILO), "kg"), "gram": (Fraction(1, KILO), "kg"),
    "t": (KILO, "kg"), "ton": (KILO, "kg"), "tonne": (KILO, "kg"),
    "gCO2": (Fraction(1, KILO), "kgCO2"), "tCO2": (KILO, "kgCO2"),
    "K": (1, "K"), "kelvin": (1, "K"), "m": (1, "m"), "metre": (1, "m"),
    "1": (1, ""), "%": (Fraction(1, 100), ""), "percent": (Fraction(1, 100), ""), "ratio": (1, ""), "times": (1, ""),
    "dozen": (12, ""), "thousand": (KILO, ""), "million": (KILO**2, ""), "billion": (KILO**3, ""),
    "trillion": (KILO**4, ""), "quadrillion": (KILO**5, ""),
    "param": (1, "parameter"), "people": (1, "person"), "query": (1, "request"), "queries": (1, "request"),
    "household": (1, "home"), "gpu": (1, "GPU"),
}  # fmt: skip
_COUNTED = [
    "parameter",
    "token",
    "word",
    "page",
    "book",
    "essay",
    "GPU",
    "chip",
    "server",
    "user",
    "person",
    "request",
    "message",
    "conversation",
    "synapse",
    "layer",
    "head",
    "element",
    "sample",
    "image",
    "home",
    "burger",
    "car",
    "step",
    "sequence",
]
_TABLE |= {name: (1, name) for name in _COUNTED}
_PREFIXED = (
    "B",
    "byte",
    "bit",
    "FLOP",
    "s",
    "second",
    "J",
    "joule",
    "W",
    "watt",
    "Wh",
    "g",
    "gram",
    "t",
    "gCO2",
    "tCO2",
    "Hz",
    "USD",
    "m",
    "metre",
)
_QUOTIENTS = {"W": ("J", "s"), "watt": ("J", "s"), "Hz": ("", "s")}

_FLOP_DAY = re.compile(r"^(?:(?P<prefix>[A-Za-z]*?)(?:FLOPs?)|(?P<pf>PF))(?:/s)?-(?P<time>[a-z]+)$")
_CO2 = re.compile(r"\b([kMG]?g|[kMG]?t|tons?|tonnes?)\s?(?:of )?CO2(?:e|eq)?\b")
_ATOM = re.compile(
    r"\s*(?P<name>[A-Za-zµ%$][A-Za-z0-9_]*|1)(?:\s*(?:\^|\*\*)\s*(?P<power>-?\d+(?:\.\d+)?|\(\s*-?\d+\s*/\s*\d+\s*\)))?"
)


def measure(text: str, where: str, own: dict[str, Measure] | None = None) -> Measure:
    """The unit that ``text`` spells; ``own`` holds a scenario's own units. InputError that starts with ``where``."""
    if len(text) > MAX_TEXT:
        raise InputError(f"{where}: a unit of {len(text)} characters; at most {MAX_TEXT}")
    tidy = " ".join(text.split())
    if not tidy:
        return Measure("", Fraction(1), PLAIN)
    special = _flop_day(tidy, where)
    if special:
        return special
    spelled = _CO2.sub(lambda m: ("t" if m[1].startswith("ton") else m[1]) + "CO2", tidy)
    factor, dim, sign, at = Fraction(1), PLAIN, 1, 0
    while True:
        match = _ATOM.match(spelled, at)
        if not match:
            raise InputError(
                f"{where}: cannot read the unit {shorten(text)!r}. Examples: GB, TFLOP/s, USD/GPU-hour, kg CO2/kWh"
            )
        one, base = _atom(match["name"], where, own or {})
        exponent = _exponent(match["power"], where) * sign
        if exponent.denominator != 1 and one != 1:
            raise InputError(f"{where}: a fractional power of {match['name']!r}; use its base unit")
        factor *= one**exponent.numerator if exponent.denominator == 1 else 1
        dim = times(dim, raised(base, exponent))
        at = match.end()
        if at == len(spelled):
            return Measure(tidy, factor, dim)
        joint = re.match(r"\s*([/*·])|[\s-]", spelled[at:])
        if not joint:
            raise InputError(f"{where}: cannot read the unit {shorten(text)!r}: unexpected {spelled[at]!r}")
        # a space or hyphen keeps the side it is on (USD/GPU-hour); / and * choose it
        sign = sign if not joint.group(1) else -1 if joint.group(1) == "/" else 1
        at += joint.end()


WORDS = ("dozen", "thousand", "million", "billion", "trillion", "quadrillion")
_COMMON = (
    "kB",
    "MB",
    "GB",
    "TB",
    "PB",
    "KiB",
    "MiB",
    "GiB",
    "TiB",
    "kWh",
    "MWh",
    "kW",
    "MW",
    "GW",
    "kg",
    "TFLOP",
    "PFLOP",
)


def _exponent(text: str | None, where: str) -> Fraction:
    try:
        value = Fraction((text or "1").strip("()").replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{where}: cannot read the power {text!r} of a unit") from None
    if abs(value) > MAX_EXPONENT:
        raise InputError(f"{where}: a unit to the power {text}; at most {MAX_EXPONENT}")
    return value


def _flop_day(text: str, where: str) -> Measure | None:
    match = _FLOP_DAY.match(text)
    if not match:
        return None
    prefix = match["prefix"] or ("P" if match["pf"] else "")
    if prefix and prefix not in _SI and prefix.lower() not in _LONG:
        return None
    power = _SI[prefix] if prefix in _SI else _LONG.get(prefix.lower(), 0)
    seconds, base = _atom(match["time"], where, {})
    if base != (("s", Fraction(1)),):
        return None
    return Measure(text, Fraction(10) ** power * seconds, (("FLOP", Fraction(1)),))


def _atom(name: str, where: str, own: dict[str, Measure]) -> tuple[Fraction, Dim]:
    if name in own:
        return own[name].factor, own[name].dim
    if name == "FLOPS":
        raise InputError(f"{where}: FLOPS is ambiguous: write FLOP (operations) or FLOP/s (a rate)")
    found = _lookup(name)
    if not found:
        hint = f"In {where}; a scenario declares its own under [units]"
        for common in _COMMON:
            if name.lower() == common.lower():
                raise InputError(f"unknown unit {name!r}. Did you mean {common!r}? {hint}")
        raise unknown("unit", name, [*_TABLE, *own, *_COMMON], hint)
    return found


@lru_cache(maxsize=512)
def _lookup(name: str) -> tuple[Fraction, Dim] | None:
    for spelling in (name, name.removesuffix("s"), name.lower(), name.lower().removesuffix("s")):
        found = _exact(spelling) or _with_prefix(spelling)
        if found:
            return found
    return None


def _exact(name: str) -> tuple[Fraction, Dim] | None:
    if name in _QUOTIENTS:
        top, low = _QUOTIENTS[name]
        return Fraction(1), times(((top, Fraction(1)),) if top else PLAIN, ((low, Fraction(1)),), -1)
    if name in _TABLE:
        factor, base = _TABLE[name]
        return Fraction(factor), ((base, Fraction(1)),) if base else PLAIN
    return None


def _with_prefix(name: str) -> tuple[Fraction, Dim] | None:
    for unit in _PREFIXED:
        if not name.endswith(unit) or name == unit:
            continue
        prefix = name[: -len(unit)]
        base = _exact(unit)
        if base and prefix in _BINARY and unit in ("B", "byte", "bit"):
            return base[0] * _BINARY[prefix], base[1]
        if base and (prefix in _SI or prefix in _LONG):
            return base[0] * Fraction(10) ** (_SI.get(prefix) or _LONG[prefix]), base[1]
    return None
