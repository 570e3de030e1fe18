"""Units of what is reported, how a person reads them, and the suffixes that sizes may carry.

The only home of 1000 and 1024. Memory is printed in GiB (1024**3), vendor sizes and links in GB (10**9),
parameters in K/M/B, and the suffix is always printed.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from estimator.errors import InputError
from estimator.records import NamedTuple

KIBI = 1024
KILO = 1000
MILLION = KILO**2
BITS_PER_BYTE = 8
SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400


class Unit(NamedTuple):
    """A unit: ``symbol`` is what a derivation prints, ``style`` how a table shortens it, ``counted`` means int."""

    name: str
    symbol: str
    style: str
    counted: bool = False


BYTES = Unit("bytes", "B", "binary", counted=True)
BITS = Unit("bits", "bit", "decimal", counted=True)
PARAMS = Unit("parameters", "", "count", counted=True)
ELEMENTS = Unit("elements", "", "count", counted=True)
TOKENS = Unit("tokens", "tokens", "count", counted=True)
COUNT = Unit("count", "", "plain", counted=True)
MACS = Unit("multiply-adds", "", "plain", counted=True)
FLOPS = Unit("FLOPs", "FLOP", "decimal", counted=True)
FLOP_RATE = Unit("FLOP/s", "FLOP/s", "decimal")
BYTE_RATE = Unit("bytes/s", "B/s", "decimal")
TOKEN_RATE = Unit("tokens/s", "tokens/s", "plain")
SECONDS = Unit("seconds", "s", "seconds")
HOURS = Unit("hours", "h", "plain")
DAYS = Unit("days", "days", "plain")
GPU_HOURS = Unit("GPU-hours", "GPU-h", "plain")
USD = Unit("USD", "USD", "money")
WATTS = Unit("watts", "W", "decimal")
KWH = Unit("kWh", "kWh", "plain")
KG = Unit("kg", "kg", "plain")
PERCENT = Unit("percent", "%", "percent")
RATIO = Unit("ratio", "", "plain")
NATS = Unit("nats/token", "nats/token", "plain")

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_COUNT = ("", "K", "M", "B", "T")


def _scaled(value: float, base: int, suffixes: tuple[str, ...]) -> tuple[str, str]:
    power, size = 0, abs(value)
    while size >= base and power < len(suffixes) - 1:
        size /= base
        power += 1
    if power == 0:
        return significant(value), suffixes[0]
    # 999.96 K would print as 1,000 K: go one suffix up
    if float(f"{size:.4g}") >= base and power < len(suffixes) - 1:
        size /= base
        power += 1
    text = f"{size:,.0f}" if size >= 1000 else f"{size:.4g}" if size >= 100 else f"{size:.2f}"
    return ("-" if value < 0 else "") + text, suffixes[power]


def significant(value: float, digits: int = 4) -> str:
    """A plain number with thousands separators and ``digits`` significant digits; ints below 10**15 in full."""
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}" if abs(value) < 10**15 else f"{float(value):.{digits}g}"
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e15 or size < 1e-4:
        return f"{value:.{digits}g}"
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{places}f}"


def human(value: float, unit: Unit) -> str:
    """``value`` as a person reads it: ``16.06 GiB``, ``8.03 B``, ``1.2 ms``; always with its suffix."""
    value = getattr(value, "number", value)  # recorded: texts say the number of the run that records
    if isinstance(value, Fraction):
        value = int(value) if value.denominator == 1 else float(value)
    if isinstance(value, int) and abs(value) >= _BEYOND:
        return f"{power_of_ten(value)} {unit.symbol}".rstrip()
    if unit.style == "binary":
        text, suffix = _scaled(value, KIBI, _BINARY)
        return f"{text} {suffix}"
    if unit.style == "count":
        text, suffix = _scaled(value, KILO, _COUNT)
        return f"{text} {suffix}".rstrip()
    if unit.style == "decimal":
        text, suffix = _scaled(value, KILO, _DECIMAL)
        return f"{text} {suffix}{unit.symbol}".rstrip()
    if unit.style == "seconds":
        return human_seconds(value)
    if unit.style == "money":
        return f"${value:,.2f}" if abs(value) < 10**6 else "$" + " ".join(_scaled(value, KILO, _COUNT))
    if unit.style in ("words", "scientific", "si"):
        return in_words(value, unit.symbol, unit.style)
    if unit.style == "percent":
        return f"{significant(value)}%"
    return f"{significant(value)} {unit.symbol}".rstrip()


_BEYOND = 10**30  # no suffix reaches so far, and floats end at 10**308


def byte_unit(most: float) -> tuple[int, str]:
    """(bytes, name) of the unit of an axis that reaches ``most`` bytes: GiB or MiB."""
    return (KIBI**3, "GiB") if most >= KIBI**3 else (KIBI**2, "MiB")


def power_of_ten(value: int, digits: int = 4) -> str:
    """An int of any length with ``digits`` significant digits: ``1.234e+567``."""
    size = max(0, abs(value).bit_length() * 30103 // 100000 - 20)  # decimal digits to drop, less some
    head = abs(value) // 10**size
    text = f"{float(head):.{digits - 1}e}"
    mantissa, _, exponent = text.partition("e")
    return f"{'-' if value < 0 else ''}{mantissa}e+{int(exponent) + size}"


_WORDS = {1: "thousand", 2: "million", 3: "billion", 4: "trillion"}


def in_words(value: float, symbol: str = "", style: str = "words") -> str:
    """A number as prose has it, 4 digits: ``5.952 billion books``, ``163.8 kB`` (si), ``1.98e15 FLOP`` (scientific)."""
    size = abs(float(f"{float(value):.4g}"))  # rounded first: 999.96 million is 1 billion
    power = math.floor(math.log10(size)) // 3 if size else 0
    if style == "si" and 1 <= power <= len(_DECIMAL) - 1:
        return f"{_digits(value / KILO**power)} {_DECIMAL[power]}{symbol}"
    if style == "words" and 2 <= power <= 5:
        power = min(power, 4)
        return f"{_digits(value / KILO**power)} {_WORDS[power]} {symbol}".rstrip()
    if size >= KILO**2 or 0 < size < 1e-3:
        head, _, exponent = f"{value:.3e}".partition("e")
        return f"{head.rstrip('0').rstrip('.')}e{int(exponent)} {symbol}".rstrip()
    return f"{_digits(value)} {symbol}".rstrip()


def _digits(value: float) -> str:
    """Four significant digits without trailing zeros, whole numbers in full."""
    text = significant(float(value) if value != int(value) else int(value))
    return text.rstrip("0").rstrip(".") if "." in text else text


def human_seconds(value: float) -> str:
    """Seconds in the unit a person would choose, from nanoseconds to years."""
    for size, suffix in (
        (365.25 * SECONDS_PER_DAY, "years"),
        (SECONDS_PER_DAY, "days"),
        (SECONDS_PER_HOUR, "h"),
        (60, "min"),
    ):
        if abs(value) >= size * (2 if suffix == "days" else 1):
            return f"{significant(value / size, 3)} {suffix}"
    for size, suffix in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= size:
            return f"{significant(value / size, 4)} {suffix}"
    return f"{significant(value / 1e-9, 3)} ns" if value else "0 s"


_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)"  # 2048, 2,048 or 2_048
_SIZE = re.compile(rf"^([+-]?(?:{_WHOLE}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)$", re.ASCII)
_COUNT_SUFFIX = {"": 1, "k": KILO, "m": KILO**2, "b": KILO**3, "g": KILO**3, "t": KILO**4, "q": KILO**5}
_BYTE_SUFFIX = {"": 1, "b": 1}
for _i, _letter in enumerate("kmgtpe", start=1):
    _BYTE_SUFFIX |= {_letter: KILO**_i, _letter + "b": KILO**_i, _letter + "ib": KIBI**_i}
_LENGTH_SUFFIX = {"": 1, "k": KIBI, "m": KIBI**2, "g": KIBI**3}
_SUFFIXES = {"count": _COUNT_SUFFIX, "bytes": _BYTE_SUFFIX, "length": _LENGTH_SUFFIX}
_MAX_DIGITS = 40  # nothing this program measures needs more; longer numbers are typing errors or attacks


def parse_number(text: str, flag: str) -> Fraction:
    """An exact number from decimal text (``0.3``, ``-2.12``, ``1e-3``); InputError that names ``flag`` otherwise."""
    match = _SIZE.match(text.strip())
    exponent = re.search(r"[eE]([+-]?\d+)$", text.strip())
    if len(text) > _MAX_DIGITS or not match or match.group(2) or (exponent and abs(int(exponent[1])) > _MAX_DIGITS):
        raise InputError(f"{flag}: {text[:40]!r} is not a number")
    return Fraction(match.group(1).replace("_", "").replace(",", ""))


def parse_memory(text: str, flag: str) -> int:
    """Bytes of a memory: ``24GB``, ``24GiB``. InputError also for a bare number that no memory has as bytes."""
    size = parse_size(text, flag, "bytes")
    if size < KIBI**2:
        number = text.strip()
        told = f"; with its unit: {flag} {number}GB" if number.isdigit() else ", less than any memory has"
        raise InputError(f"{flag} {number[:40]} is {size:,} bytes{told}")
    return size


def parse_size(text: str, flag: str, kind: str = "count") -> int:
    """An exact int from ``8k``, ``7.5e9``, ``7B``, ``80GB``, ``80GiB``.

    ``kind``: ``count`` (suffixes are powers of 1000), ``bytes`` (GB and GiB told apart; 22.06GiB is cut to whole ones),
    ``length`` (k is 1024).
    Raises InputError that names ``flag`` for anything that is not a positive whole number.
    """
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text):
        return int(text)
    shown = text if len(text) <= 40 else text[:37] + "..."
    match = _SIZE.match(text.strip())
    if len(text) > _MAX_DIGITS or not match:
        raise InputError(
            f"{flag}: {shown!r} is not a size. Examples: 2048, 8k, 7.5e9, 7B"
            + (", 80GB, 80GiB" if kind == "bytes" else "")
        )
    digits, suffix = match.groups()
    factor = _SUFFIXES[kind].get(suffix.lower())
    if factor is None:
        raise InputError(
            f"{flag}: unknown suffix {suffix!r} in {shown!r}. Known: {', '.join(s for s in _SUFFIXES[kind] if s)}"
        )
    exponent = re.search(r"[eE]([+-]?\d+)$", digits)
    if exponent and abs(int(exponent.group(1))) > _MAX_DIGITS:
        raise InputError(f"{flag}: {shown!r} is out of range")
    number = Fraction(digits.replace("_", "").replace(",", "")) * factor
    if number <= 0 or (kind == "bytes" and number < 1):
        raise InputError(f"{flag} must be > 0, got {shown}")
    if number.denominator != 1 and (kind != "bytes" or not suffix):
        raise InputError(f"{flag} must be a whole number, got {shown}")
    return int(number)


_TIMES = {"": 1, "s": 1, "ms": KILO**-1, "us": KILO**-2, "min": 60, "h": SECONDS_PER_HOUR}


def parse_seconds(text: str, flag: str) -> float:
    """Seconds from ``50ms``, ``1.5s``, ``2min`` or a plain number; InputError that names ``flag`` otherwise."""
    match = _SIZE.match(text.strip())
    factor = _TIMES.get(match.group(2).lower()) if match and len(text) <= _MAX_DIGITS else None
    value = float(match.group(1).replace("_", "").replace(",", "")) * factor if match and factor else 0.0
    if not 0 < value < math.inf:
        raise InputError(f"{flag}: {text[:40]!r} is not a time above 0. Examples: 50ms, 1.5s, 2min")
    return value
