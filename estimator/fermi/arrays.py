"""Many samples at once with numpy: the same floats as one by one, which tests hold it to.

Python's generator and numpy's are the same Mersenne twister, so one continues the other's state. Sums, products,
quotients and roots are IEEE 754's in both, and ``exp`` is the C library's where numpy takes it of complex numbers;
``log`` and powers, which numpy may round otherwise, are mapped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, repeat
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from estimator.fermi.algebra import Samples
from estimator.ops import numpy_there

if TYPE_CHECKING:
    from estimator.fermi.ranges import Interval

FROM = 20_000  # samples from which importing numpy pays
CHUNK = 1 << 14  # computed at once: what fits the processor's caches
CENTRE = 0.425  # |u - 1/2| up to which the quantile is one quotient of polynomials; beyond it others are taken
FAR = 5.0  # of sqrt(-log(u)), where they are others again
# Wichura 1988, algorithm AS 241 (PPND16): factors as CPython's statistics._normal_dist_inv_cdf has them
ABOVE = (
    2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
    1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
)  # fmt: skip
BELOW = (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
         5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0)  # fmt: skip
TAIL_ABOVE = (
    7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
    3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0,
)  # fmt: skip
TAIL_BELOW = (
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
    6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0,
)  # fmt: skip
CHECKED = 129  # first values, which are compared with Python's own before the rest are believed
SHORT = 20  # bits of a place, beside which two draws hardly ever have the same leading bits
MOST = 700.0  # up to which no exponential overflows


def wanted(count: int) -> bool:
    """Whether so many samples are drawn with numpy, which must be there."""
    return count >= FROM and numpy_there()


def sample(interval: Interval, count: int, random: Random) -> tuple[Any, Any]:
    """(:meth:`Interval.sample` as an array, the stratum of each draw)."""
    import numpy as np

    draws = np.random.RandomState()
    *words, position = random.getstate()[1]
    draws.set_state(("MT19937", np.array(words, dtype=np.uint32), int(position), 0, 0.0))
    strata = order_of(draws.random_sample(count))
    shares = draws.random_sample(count)
    shares[shares == 0] = 0.5
    for i in range(0, count, CHUNK):
        part = slice(i, i + CHUNK)
        shares[part] = quantiles(interval, (strata[part] + shares[part]) / count)
    return shares, strata.astype(np.int32)


def order_of(keys: Any) -> Any:
    """The stable argsort of draws from [0, 1): that of their leading bits with their places behind, if those differ."""
    import numpy as np

    bits = (len(keys) - 1).bit_length()
    if bits <= SHORT:
        packed = (keys * 2.0 ** (63 - bits)).astype(np.int64) << bits
        packed |= np.arange(len(keys))
        packed.sort()
        leading = packed >> bits
        if (leading[1:] != leading[:-1]).all():
            packed &= (1 << bits) - 1
            return packed
    order = np.argsort(keys)
    ordered = keys[order]
    return np.argsort(keys, kind="stable") if (ordered[1:] == ordered[:-1]).any() else order


def quantiles(interval: Interval, u: Any) -> Any:
    """The interval's quantile function of an array of shares."""
    if interval.kind == "uniform":
        a, b = float(interval.low), float(interval.high)
        return a + (b - a) * u
    if interval.kind == "triangular":
        return mapped(interval.quantiles(), u)
    a, b = float(interval.low), float(interval.high)
    if interval.kind == "lognormal":
        a, b = math.log(a), math.log(b)
    middle, sigma = (a + b) / 2, (b - a) / 2 / NormalDist().inv_cdf(0.95)
    x = middle + sigma * normal(u)
    return x if interval.kind == "normal" else exponentials(x)


def normal(u: Any) -> Any:
    """Quantiles of the standard normal distribution."""
    import numpy as np

    library = NormalDist().inv_cdf
    q = u - 0.5
    central = np.abs(q) <= CENTRE
    r = 0.180625 - q * q
    out = _polynomial(ABOVE, r) * q / _polynomial(BELOW, r)
    tails = np.flatnonzero(~central)
    share = u[tails]
    low = q[tails] <= 0
    r = np.sqrt(-mapped(math.log, np.where(low, share, 1.0 - share)))
    far = r > FAR
    r -= 1.6
    x = _polynomial(TAIL_ABOVE, r) / _polynomial(TAIL_BELOW, r)
    out[tails] = np.where(low, -x, x)
    rare = tails[far]
    out[rare] = mapped(library, u[rare])
    if out[:CHECKED].tolist() != [library(x) for x in u[:CHECKED].tolist()]:  # a machine that fuses multiply and add
        return mapped(library, u)
    return out


def _polynomial(factors: Sequence[float], x: Any) -> Any:
    out = factors[0] * x
    for factor in factors[1:-1]:
        out += factor
        out *= x
    out += factors[-1]
    return out


def mapped(function: Any, *arrays: Any) -> Any:
    """``function`` of each element, as Python computes it."""
    import numpy as np

    count = max(np.size(a) for a in arrays)
    out = np.empty(count)
    for i in range(0, count, CHUNK):
        parts = [a[i : i + CHUNK].tolist() if np.ndim(a) else repeat(a, min(CHUNK, count - i)) for a in arrays]
        out[i : i + CHUNK] = np.fromiter(map(function, *parts), float, min(CHUNK, count - i))
    return out


def exponentials(x: Any) -> Any:
    """``math.exp`` of each element of an array."""
    import numpy as np

    if not np.abs(x).max() <= MOST:
        return mapped(math.exp, x)
    out = np.empty(len(x))
    for i in range(0, len(x), CHUNK):
        out[i : i + CHUNK] = np.exp(x[i : i + CHUNK].astype(complex)).real
    if out[:CHECKED].tolist() != [math.exp(v) for v in x[:CHECKED].tolist()]:  # another library for complex numbers
        return mapped(math.exp, x)
    return out


class Arrays(Samples):
    """Floats and arrays of floats of one length."""

    def negate(self, x: Any) -> Any:
        return -x

    def binary(self, op: str, a: Any, b: Any) -> Any:
        import numpy as np

        if not np.ndim(a) and not np.ndim(b):
            return super().binary(op, a, b)
        if op == "**":
            return mapped(pow, a, b)
        if op == "/":
            if not np.all(b):
                raise ZeroDivisionError("a sample is 0")
            return a / b
        return a + b if op == "+" else a - b if op == "-" else a * b

    def call(self, func: str, args: Sequence[Any]) -> Any:
        import numpy as np

        if not any(np.ndim(a) for a in args):
            return super().call(func, args)
        if func in ("min", "max"):
            out = args[0]
            for other in args[1:]:
                out = np.minimum(out, other) if func == "min" else np.maximum(out, other)
            return out
        if func == "sqrt":
            if (args[0] < 0).any():
                raise ValueError("the root of a negative sample")
            return np.sqrt(args[0])
        return mapped(math.log, args[0]) if func == "log" else exponentials(args[0])


def finite(values: Any) -> bool:
    """Whether every value is a number, and none of them infinite."""
    import numpy as np

    return bool(np.isfinite(values).all())


def counts(ordered: Any, edges: Sequence[float]) -> list[int]:
    """How many of the sorted values lie in each bin; the last edge belongs to the last."""
    import numpy as np

    places = [int(np.searchsorted(ordered, edge, "left")) for edge in edges[:-1]]
    places.append(int(np.searchsorted(ordered, edges[-1], "right")))
    return [b - a for a, b in pairwise(places)]


def ranks(values: Any, strata: Any = None) -> Any:
    """Twice the rank of each value, from 0, as ints; equal values share the mean of theirs.

    strata: of values drawn one from each, in whose order they lie, but for what rounds.
    """
    import numpy as np

    if strata is not None:
        ordered = np.empty(len(values))
        ordered[strata] = values
        if (ordered[1:] > ordered[:-1]).all():
            return 2 * strata.astype(np.int64)
    order = np.argsort(values)
    ordered = values[order]
    out = np.empty(len(values), dtype=np.int64)
    new = ordered[1:] != ordered[:-1]
    if new.all():
        out[order] = np.arange(0, 2 * len(values), 2)
        return out
    starts = np.flatnonzero(np.concatenate(([True], new)))
    ends = np.concatenate((starts[1:], [len(values)]))
    out[order] = np.repeat(starts + ends - 1, ends - starts)
    return out


def correlation(a: Any, b: Any) -> float:
    """Spearman's rho of doubled ranks, from exact sums."""
    mean = len(a) - 1
    x, y = a - mean, b - mean
    size = math.sqrt(_sum(x, x) * _sum(y, y))
    return _sum(x, y) / size if size else 0.0


def _sum(x: Any, y: Any) -> float:
    """A quarter of the sum of products of ints, rounded once."""
    step = max(1, 2**61 // (4 * len(x) ** 2))
    return sum(int(x[i : i + step] @ y[i : i + step]) for i in range(0, len(x), step)) / 4
