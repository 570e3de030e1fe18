"""Formulas of serving: lower bounds of a step, the critical batch, collectives, money."""

from __future__ import annotations

from typing import Any

from estimator.alike import power
from estimator.formula import formula
from estimator.formulas.zero import ring_elements
from estimator.units import COUNT, RATIO, SECONDS, SECONDS_PER_HOUR, TOKENS, USD

SCALING_BOOK = "Austin et al. 2025, How to Scale Your Model, https://jax-ml.github.io/scaling-book/inference"
POPE = "Pope et al. 2022, arXiv 2211.05102, section 2.1"
MILLION = 10**6


@formula(
    unit=SECONDS, cite=f"{SCALING_BOOK}; {POPE}", assumes=("bound by memory: every weight and every cache byte once",)
)
def decode_floor_seconds(weights: Any, cache: Any, N: Any, bandwidth: Any) -> Any:
    """The least time of a decode step: bytes of the weights and of all caches over the bandwidth of N accelerators."""
    return (weights + cache) / (N * bandwidth)


@formula(unit=SECONDS, cite=SCALING_BOOK, assumes=("bound by compute", "attention scores are not counted"))
def prefill_floor_seconds(P: Any, tokens: Any, N: Any, peak: Any, mfu: Any) -> Any:
    """Two operations a parameter and token, at a share ``mfu`` of the peak of N accelerators."""
    return 2 * P * tokens / (N * peak * mfu)


@formula(unit=TOKENS, cite=f"{SCALING_BOOK}, roofline of a matrix product", assumes=("dense weights",))
def critical_batch(peak: Any, bandwidth: Any, weight_bits: Any) -> Any:
    """Tokens in a step from which a product with the weights is bound by compute: peak * bits / 16 / bandwidth."""
    return peak * weight_bits / 16 / bandwidth


@formula(unit=TOKENS, cite="counting: each of E experts sees k/E of the tokens")
def critical_batch_experts(tokens: Any, E: Any, k: Any) -> Any:
    """The critical batch of routed experts: E/k times that of a dense product."""
    return tokens * E / k


@formula(
    unit=COUNT,
    cite="counting: a token passes an expert by with probability 1 - k/E",
    assumes=("tokens choose independently, all experts alike",),
)
def experts_met(E: Any, k: Any, n: Any) -> Any:
    """Experts of E that at least one of n tokens chooses, each k of them: in the mean."""
    return E * (1 - power(1 - k / E, n))


@formula(
    unit=SECONDS,
    cite="Patarasuk and Yuan 2009, Bandwidth optimal all-reduce; Sanders, Speck and Traeff 2009, Two-tree algorithms",
    assumes=("the bandwidth of a ring, the steps of a tree, as NCCL chooses by size",),
)
def all_reduce_seconds(n: Any, N: Any, link: Any, steps: Any, latency: Any) -> Any:
    """n bytes summed over N accelerators: twice a ring's share passes each link (bytes/s one way), in so many steps."""
    return 2 * ring_elements(n, N) / link + steps * latency


@formula(unit=SECONDS, cite="counting: each reads what the others have")
def direct_sum_seconds(n: Any, N: Any, link: Any, barriers: Any) -> Any:
    """n bytes of each of N accelerators summed by all: what the others have passes a link (bytes/s one way)."""
    return (N - 1) * n / link + barriers


@formula(unit=USD, cite="counting: every GPU's price over the tokens it yields")
def usd_per_million(price: Any, N: Any, tokens_per_second: Any) -> Any:
    """USD for a million tokens on N accelerators at ``price`` USD an hour each."""
    return price * N * MILLION / (SECONDS_PER_HOUR * tokens_per_second)


@formula(unit=COUNT, cite=f"{SCALING_BOOK}", assumes=("weights only",))
def least_accelerators(weights: Any, memory: Any) -> Any:
    """Accelerators whose memory just holds the weights, before rounding up."""
    return weights / memory


@formula(
    unit=RATIO, cite="Leviathan, Kalman and Matias 2023, arXiv 2211.17192, theorem 3.8, with its own verification time"
)
def speculative_gain(tokens: Any, gamma: Any, draft: Any, verify: Any, step: Any) -> Any:
    """Speed-up where gamma draft steps and one verification of gamma + 1 tokens yield ``tokens`` tokens."""
    return tokens * step / (gamma * draft + verify)
