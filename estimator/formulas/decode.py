"""Formulas of decoding: beam search, speculative decoding."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import COUNT, RATIO, TOKENS

LEVIATHAN = "Leviathan, Kalman and Matias 2023, arXiv 2211.17192"


@formula(unit=COUNT, cite="counting: T free positions, N words each", assumes=("the first token is fixed",))
def sequence_count(N: Any, T: Any) -> Any:
    """Sequences of T tokens after a fixed first one, over a vocabulary of N."""
    return N**T


@formula(unit=COUNT, cite="Graves 2012, arXiv 1211.3711", assumes=("selecting the best B of B*N is linear",))
def beam_scores(T: Any, B: Any, N: Any) -> Any:
    """Scores that beam search of width B computes over T steps."""
    return T * B * N


@formula(unit=COUNT, cite="Graves 2012, arXiv 1211.3711")
def beam_cells(T: Any, B: Any, N: Any) -> Any:
    """Numbers that beam search keeps: B sequences of T tokens and one step's B*N scores."""
    return B * T + B * N


@formula(unit=TOKENS, cite=f"{LEVIATHAN}, equation 1", assumes=("each draft token is accepted independently",))
def expected_tokens(alpha: Any, gamma: Any) -> Any:
    """Tokens gained by one pass of the large model: gamma drafts, each accepted with probability alpha < 1."""
    return (1 - alpha ** (gamma + 1)) / (1 - alpha)


@formula(
    unit=RATIO, cite=f"{LEVIATHAN}, theorem 3.8", assumes=("a pass over gamma + 1 tokens takes as long as over one",)
)
def speculative_speedup(alpha: Any, gamma: Any, c: Any) -> Any:
    """Expected speed-up in wall time; c: a pass of the draft model over a pass of the large one."""
    return (1 - alpha ** (gamma + 1)) / ((1 - alpha) * (gamma * c + 1))


@formula(unit=RATIO, cite=f"{LEVIATHAN}, theorem 3.11")
def speculative_operations(alpha: Any, gamma: Any, c_ops: Any) -> Any:
    """Expected growth of the operations; c_ops: the draft model's operations a token over the large model's."""
    return (1 - alpha) * (gamma * c_ops + gamma + 1) / (1 - alpha ** (gamma + 1))
