"""Time: of a run, lost to failures."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import HOURS, RATIO, SECONDS, SECONDS_PER_HOUR, TOKEN_RATE

RECOMPUTED_STEP = 8  # FLOPs a parameter and token: forward 2, backward 4, the forward pass again 2


@formula(
    unit=SECONDS,
    cite="Narayanan et al. 2021, Megatron-LM, arXiv 2104.04473, equation 4",
    assumes=("every layer is recomputed",),
)
def end_to_end_seconds(D: Any, P: Any, N: Any, X: Any) -> Any:
    """8 T P / (n X): D tokens through P parameters on N GPUs of X FLOP/s achieved each."""
    return RECOMPUTED_STEP * D * P / (N * X)


@formula(unit=SECONDS, cite="Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B")
def seconds_at_utilisation(C: Any, N: Any, F: Any, mfu: Any) -> Any:
    """C model FLOPs on N GPUs of peak F at a model FLOPs utilisation."""
    return C / (N * F * mfu)


@formula(unit=TOKEN_RATE, cite="a step's tokens over its time")
def token_rate(tokens: Any, seconds: Any) -> Any:
    """Tokens a second."""
    return tokens / seconds


@formula(unit=HOURS, cite="tokens over their rate, and over the share of time that makes progress")
def run_hours(D: Any, rate: Any, share: Any) -> Any:
    """Wall-clock hours of D tokens at ``rate`` tokens a second, ``share`` of the time being productive."""
    return D / (rate * share * SECONDS_PER_HOUR)


@formula(unit=SECONDS, cite="Young 1974, A first order approximation to the optimum checkpoint interval, CACM 17(9)")
def checkpoint_interval(write: Any, mtbf: Any) -> Any:
    """sqrt(2 * write * mtbf): the interval that loses least, ``write`` seconds a checkpoint, failing every ``mtbf``."""
    return (2 * write * mtbf) ** 0.5


@formula(
    unit=RATIO,
    cite="Daly 2006, A higher order estimate of the optimum checkpoint interval, FGCS 22(3), first-order form",
)
def goodput(write: Any, interval: Any, mtbf: Any, restart: Any) -> Any:
    """Share of the time that makes progress: less checkpoints, and half an interval and a restart a failure."""
    return 1 - write / interval - (interval / 2 + restart) / mtbf
