"""The parametric law fitted to runs, as Hoffmann et al. 2022, appendix D.2 and Besiroglu et al. 2024 fit it.

Minimise sum_i Huber_delta(LSE(a - alpha log N_i, b - beta log D_i, e) - log L_i), delta = 1e-3, over a, b, e, alpha,
beta by L-BFGS from a grid of starts; A, B, E = exp(a), exp(b), exp(e). The whole grid of 4,500 starts is evaluated
in one array operation and the descent begins at the most promising of them: every one of these would be tried last
anyway. The gradient is analytic.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimator.chinchilla.runs import TrainingRun
from estimator.errors import InputError
from estimator.records import dataclass

Array = NDArray[np.float64]
HUBER_DELTA = 1e-3
# Hoffmann et al. 2022, appendix D.2: the grid of starts
GRID = {"alpha": (0, 2.5, 0.5), "beta": (0, 2.5, 0.5), "e": (-1, 1.5, 0.5), "a": (0, 30, 5), "b": (0, 30, 5)}
NAMES = ("A", "B", "E", "alpha", "beta")
STARTS = 40
_SPREAD = 20  # of these, how many are taken evenly over the ranked grid rather than from its head
_SAME = 1e-6  # relative: two descents that ended here ended at the same optimum
_EXACT = HUBER_DELTA * 1e-9  # a run: where residuals are below a billionth, descents end by chance of rounding
_CHUNK = 500  # starts ranked at a time: bounds the memory
_MANY = 1000  # with twice as many runs or more, the starts descend on a part of them


_THREADS = "OPENBLAS_NUM_THREADS"


def _load_minimize() -> Any:
    """scipy's minimize, its linear algebra on one thread.

    L-BFGS solves systems of a few unknowns; shared among threads they cost ten times the CPU time on busy cores
    (measured: 17 s against 1.2 s for 140 descents, two cores). OpenBLAS reads the variable once, when it is loaded.
    """
    before = os.environ.get(_THREADS)
    os.environ.setdefault(_THREADS, "1")
    try:
        from scipy.optimize import minimize
    finally:
        if before is None:
            del os.environ[_THREADS]
    return minimize


minimize = _load_minimize()


@dataclass(frozen=True, slots=True)
class LawFit:
    """Coefficients (A, B, E, alpha, beta), the objective, residuals log L - log prediction, and how it was found.

    agreed  of ``starts`` descents, how many ended at this optimum
    """

    values: dict[str, float]
    objective: float
    residuals: list[float]
    starts: int
    agreed: int
    theta: tuple[float, ...]


def _data(runs: Sequence[TrainingRun]) -> tuple[Array, Array, Array]:
    return tuple(np.log(np.array([getattr(r, k) for r in runs], dtype=np.float64)) for k in ("N", "D", "loss"))  # type: ignore[return-value]


def objective(theta: Array, n: Array, d: Array, y: Array, weight: Array) -> tuple[float, Array]:
    """The weighted Huber loss and its gradient at theta = (a, b, e, alpha, beta)."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
    top = terms.max(axis=0)
    powers = np.exp(terms - top)
    total = powers.sum(axis=0)
    gap = top + np.log(total) - y
    slope = np.clip(gap, -HUBER_DELTA, HUBER_DELTA)  # the derivative of Huber's function
    share = powers / total * (slope * weight)
    sums = share.sum(axis=1)
    gradient = np.array([sums[0], sums[1], sums[2], -(share[0] @ n), -(share[1] @ d)])
    return float(weight @ (slope * (gap - 0.5 * slope))), gradient


def starts(n: Array, d: Array, y: Array, count: int) -> Array:
    """The most promising starts of the grid, and some spread evenly over the rest."""
    axes = [np.arange(*GRID[k]) for k in ("a", "b", "e", "alpha", "beta")]
    grid = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
    cost = np.empty(len(grid))
    for i in range(0, len(grid), _CHUNK):
        g = grid[i : i + _CHUNK, :, None]
        one, two = g[:, 0] - g[:, 3] * n, g[:, 1] - g[:, 4] * d
        gap = np.logaddexp(np.logaddexp(one, two), g[:, 2]) - y
        slope = np.clip(gap, -HUBER_DELTA, HUBER_DELTA)
        cost[i : i + _CHUNK] = (slope * (gap - 0.5 * slope)).sum(axis=1)
    order = np.argsort(cost, kind="stable")
    head = order[: max(1, count - _SPREAD)]
    rest = order[len(head) :: max(1, (len(order) - len(head)) // _SPREAD)][:_SPREAD]
    return np.concatenate([grid[head], grid[rest]])[:count]


def descend(theta: Array, n: Array, d: Array, y: Array, weight: Array) -> tuple[float, Array]:
    """L-BFGS from ``theta`` to the nearest optimum.

    It walks in the coordinates of centred and scaled logarithms, a - alpha mean(log N) and alpha std(log N): the
    same function, in which amplitude and exponent no longer trade off against each other.
    The objective is scaled to order one, as the tolerances expect.
    """
    scale = 1.0 / (HUBER_DELTA * weight.sum())
    (mn, sn), (md, sd) = (n.mean(), n.std()), (d.mean(), d.std())
    zn, zd = (n - mn) / sn, (d - md) / sd

    def scaled(t: Array) -> tuple[float, Array]:
        value, gradient = objective(t, zn, zd, y, weight)
        return value * scale, gradient * scale

    a, b, e, alpha, beta = theta
    begin = np.array([a - alpha * mn, b - beta * md, e, alpha * sn, beta * sd])
    with np.errstate(over="ignore", invalid="ignore"):
        found: Any = minimize(
            scaled,
            begin,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9},
        )
    a, b, e, alpha, beta = found.x
    alpha, beta = alpha / sn, beta / sd
    return float(found.fun) / scale, np.array([a + alpha * mn, b + beta * md, e, alpha, beta])


def fit(runs: Sequence[TrainingRun], count: int = STARTS, progress: Callable[[int, int], None] | None = None) -> LawFit:
    """The best of ``count`` descents; InputError where none ends at a law.

    With very many runs the starts descend on some hundreds of them, and the best goes on over all.
    """
    n, d, y = _data(runs)
    some = slice(None, None, max(1, len(n) // _MANY))
    few = n[some], d[some], y[some]
    ends = []
    begin = starts(*few, count)
    for i, theta in enumerate(begin):
        ends.append(descend(theta, *few, np.ones_like(few[0])))
        if progress:
            progress(i + 1, len(begin))
    best, theta = min(ends, key=lambda end: end[0] if np.isfinite(end[0]) else np.inf)
    agreed = sum(abs(end[0] - best) <= max(_SAME * best, _EXACT * len(n)) for end in ends)
    if len(few[0]) < len(n):
        best, theta = descend(theta, n, d, y, np.ones_like(n))
    values = _values(theta)
    if not np.isfinite(best) or not all(np.isfinite(v) and v > 0 for v in values.values()):
        raise InputError(
            "these runs do not determine a law: the fit ends where A, B, E, alpha or beta is not finite and positive"
        )
    return LawFit(values, best, (y - predict(theta, n, d)).tolist(), len(begin), agreed, tuple(float(t) for t in theta))


def predict(theta: Array, n: Array, d: Array) -> Array:
    """log L of the law at log N and log D."""
    out: Array = np.logaddexp(np.logaddexp(theta[0] - theta[3] * n, theta[1] - theta[4] * d), theta[2])
    return out


def _values(theta: Array) -> dict[str, float]:
    with np.errstate(over="ignore"):
        natural = np.concatenate([np.exp(theta[:3]), theta[3:]])
    return dict(zip(NAMES, (float(v) for v in natural), strict=True))


def bootstrap(
    runs: Sequence[TrainingRun],
    best: LawFit,
    samples: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """Coefficients refitted to ``samples`` resamples of the runs (with replacement), each begun at the best fit.

    A resample counts how often each run was drawn; the counts are the weights of the objective.
    """
    n, d, y = _data(runs)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {k: [] for k in NAMES}
    begin = np.array(best.theta)
    for i in range(samples):
        weight = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs))).astype(np.float64)
        value, theta = descend(begin, n, d, y, weight)
        got = _values(theta)
        if np.isfinite(value) and all(np.isfinite(v) for v in got.values()):
            for key, v in got.items():
                drawn[key].append(v)
        if progress:
            progress(i + 1, samples)
    return drawn


def interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """The central interval that holds ``level`` of the values."""
    low, high = np.quantile(np.array(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
