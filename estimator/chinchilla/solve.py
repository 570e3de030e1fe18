"""Optima that have no closed form: a model that will be served, and data that must be repeated.

Everything here is plain floats and bisection or golden section on a monotone or unimodal function: deterministic,
no start values, no library.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from estimator.chinchilla.laws import Law, Parametric
from estimator.errors import InputError
from estimator.formulas.scaling import INFERENCE_FLOPS
from estimator.records import dataclass

# Muennighoff et al. 2023, appendix A: how fast repeated tokens and excess parameters lose their value
REPEAT_HALF_LIFE_TOKENS = 15.387756
REPEAT_HALF_LIFE_PARAMS = 5.309743
_STEPS = 200  # bisection halves the bracket each time: 200 exhaust a double's 53 bits from any bracket
_GRID = 400


@dataclass(frozen=True, slots=True)
class Point:
    """A model: parameters, tokens processed in training, loss."""

    N: float
    D: float
    loss: float


def bisect(below: Callable[[float], bool], low: float, high: float) -> float:
    """The boundary in (low, high) at which ``below`` turns from True to False, searched on a log scale."""
    a, b = math.log(low), math.log(high)
    for _ in range(_STEPS):
        middle = 0.5 * (a + b)
        if middle in (a, b):
            break
        a, b = (middle, b) if below(math.exp(middle)) else (a, middle)
    return math.exp(0.5 * (a + b))


def tokens_for_loss(law: Parametric, N: float, loss: float) -> float:
    """The tokens that bring N parameters to ``loss``; inf where no number of tokens does."""
    left = loss - law.E - law.A / N**law.alpha
    return float((law.B / left) ** (1 / law.beta)) if left > 0 else math.inf


def compute_for_loss(law: Law, loss: float) -> float:
    """The least C at which the frontier reaches ``loss``: L_opt(C) = E + K C**-x inverted by its own closed form."""
    from estimator.formulas import scaling as f

    p = law.any_loss
    assert p is not None
    if loss <= p.E:
        return math.inf
    k = f.frontier_amplitude(law.C0, *p.shape)
    return float((k / (loss - p.E)) ** (-1 / f.frontier_exponent(p.alpha, p.beta)))


def serve(law: Law, loss: float, served: float) -> Point:
    """The model of a given loss with the least training and inference FLOPs (Sardana et al. 2023, section 2).

    Minimise C0 N D + 2 N D_inf subject to L(N, D) = loss. Its Lagrange condition is
    beta B/D**beta (1 + 2 D_inf/(C0 D)) = alpha A/N**alpha; with A/N**alpha from the constraint, the left side less
    the right falls steadily in D, so the root is unique.
    """
    p = law.parametric
    assert p is not None
    gap = loss - p.E
    if gap <= 0:
        raise InputError(f"a loss of {loss:.4g} is not above the law's irreducible {p.E:.4g}")

    def too_few(D: float) -> bool:
        data = p.B / D**p.beta
        return bool(data * (p.beta * (1 + INFERENCE_FLOPS * served / (law.C0 * D)) + p.alpha) > p.alpha * gap)

    least = (p.B / gap) ** (1 / p.beta)
    high = least
    while too_few(high):
        high *= 4
    D = bisect(too_few, least, high * 4)
    N = (p.A / (gap - p.B / D**p.beta)) ** (1 / p.alpha)
    return Point(N, D, p.loss(N, D))


def effective(law: Law, N: float, D: float, unique: float) -> tuple[float, float]:
    """Parameters and tokens that N and D are worth when only ``unique`` tokens exist (Muennighoff et al., eq. 5, 6)."""
    fresh = min(unique, D)
    tokens = _worth(fresh, D, REPEAT_HALF_LIFE_TOKENS)
    base = min(law.n_opt(law.c_of_tokens(fresh)), N)
    return _worth(base, N, REPEAT_HALF_LIFE_PARAMS), tokens


def _worth(fresh: float, total: float, scale: float) -> float:
    repeats = total / fresh - 1
    return fresh + fresh * scale * -math.expm1(-repeats / scale)


def repeat(law: Law, C: float, unique: float) -> Point:
    """The least loss at C FLOPs when only ``unique`` tokens exist; more tokens than that are repeated."""
    p = law.parametric
    assert p is not None
    D0 = law.d_opt(C)
    if unique >= D0:
        return Point(law.n_opt(C), D0, law.frontier_loss(C))

    def loss(log_d: float) -> float:
        D = math.exp(log_d)
        n, d = effective(law, C / (law.C0 * D), D, unique)
        return float(p.loss(n, d))

    low, high = math.log(unique), math.log(C / law.C0)
    grid = [low + (high - low) * i / _GRID for i in range(_GRID + 1)]
    best = min(range(len(grid)), key=lambda i: loss(grid[i]))
    x = golden(loss, grid[max(0, best - 1)], grid[min(_GRID, best + 1)])
    D = math.exp(x)
    return Point(C / (law.C0 * D), D, loss(x))


def golden(function: Callable[[float], float], low: float, high: float) -> float:
    """The minimum of a unimodal function on [low, high]."""
    ratio = (math.sqrt(5) - 1) / 2
    c, d = high - ratio * (high - low), low + ratio * (high - low)
    fc, fd = function(c), function(d)
    for _ in range(_STEPS):
        if high - low < 1e-9:
            break
        if fc < fd:
            high, d, fd = d, c, fc
            c = high - ratio * (high - low)
            fc = function(c)
        else:
            low, c, fc = c, d, fd
            d = low + ratio * (high - low)
            fd = function(d)
    return 0.5 * (low + high)
