"""Scaling laws: the parametric loss, its compute-optimal frontier, over-training, inference, repeated data.

N parameters, D training tokens, C training FLOPs, C0 FLOPs a parameter and token (6). The quantities are real
numbers, so ``/`` and ``**`` are used freely; the same code runs on floats, on traced numbers and on SymPy symbols.
"""

from __future__ import annotations

from typing import Any

from estimator.formula import Citation, formula
from estimator.units import GPU_HOURS, NATS, RATIO, SECONDS_PER_HOUR, USD, Unit

# estimates, not counts: an optimum is a real number
PARAMETERS = Unit("parameters", "", "count")
TOKENS = Unit("tokens", "tokens", "count")
COMPUTE = Unit("FLOPs", "FLOP", "plain")
EXPONENT = Unit("exponent", "", "plain")
INFERENCE_FLOPS = 2  # a parameter and generated or read token: one multiply-add, forward only

HOFFMANN = Citation(
    "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models", "https://arxiv.org/abs/2203.15556"
)
HOFFMANN_EQ4 = Citation("Hoffmann et al. 2022, equation 4", HOFFMANN.url)
HOFFMANN_EQ2 = Citation("Hoffmann et al. 2022, equation 2", HOFFMANN.url)
KAPLAN_6ND = Citation(
    "Kaplan et al. 2020, Scaling Laws for Neural Language Models, section 2.1", "https://arxiv.org/abs/2001.08361"
)
SARDANA = Citation("Sardana et al. 2023, Beyond Chinchilla-Optimal", "https://arxiv.org/abs/2401.00448")
MUENNIGHOFF = Citation(
    "Muennighoff et al. 2023, Scaling Data-Constrained Language Models, section 3.1", "https://arxiv.org/abs/2305.16264"
)


@formula(EXPONENT, HOFFMANN_EQ4)
def scaling_a(alpha: Any, beta: Any) -> Any:
    """Exponent of the optimal parameters: N_opt grows as C**a."""
    return beta / (alpha + beta)


@formula(EXPONENT, HOFFMANN_EQ4)
def scaling_b(alpha: Any, beta: Any) -> Any:
    """Exponent of the optimal tokens: D_opt grows as C**b, and a + b = 1."""
    return alpha / (alpha + beta)


@formula(RATIO, HOFFMANN_EQ4)
def scaling_g(A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """G: how an optimal budget is split between parameters and tokens."""
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta))


@formula(PARAMETERS, HOFFMANN_EQ4)
def optimal_params(C: Any, C0: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """N_opt = G (C/C0)**a: the parameters that minimise the loss at C FLOPs."""
    return scaling_g(A, B, alpha, beta) * (C / C0) ** scaling_a(alpha, beta)


@formula(TOKENS, HOFFMANN_EQ4)
def optimal_tokens(C: Any, C0: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """D_opt = (C/C0)**b / G: the tokens that minimise the loss at C FLOPs."""
    return (C / C0) ** scaling_b(alpha, beta) / scaling_g(A, B, alpha, beta)


@formula(COMPUTE, HOFFMANN_EQ4)
def compute_of_params(N: Any, C0: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """The budget for which N parameters are optimal: N_opt solved for C."""
    return C0 * (N / scaling_g(A, B, alpha, beta)) ** (1 / scaling_a(alpha, beta))


@formula(COMPUTE, HOFFMANN_EQ4)
def compute_of_tokens(D: Any, C0: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """The budget for which D tokens are optimal: D_opt solved for C."""
    return C0 * (D * scaling_g(A, B, alpha, beta)) ** (1 / scaling_b(alpha, beta))


@formula(NATS, HOFFMANN_EQ2)
def parametric_loss(N: Any, D: Any, E: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """L(N, D) = E + A/N**alpha + B/D**beta: entropy of text, too few parameters, too few tokens."""
    return E + A / N**alpha + B / D**beta


@formula(NATS, HOFFMANN_EQ4)
def frontier_amplitude(C0: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """K of L_opt(C) = E + K C**(-alpha beta/(alpha + beta)), the loss along the frontier."""
    g = scaling_g(A, B, alpha, beta)
    return (A / g**alpha + B * g**beta) * C0 ** (alpha * beta / (alpha + beta))


@formula(EXPONENT, HOFFMANN_EQ4)
def frontier_exponent(alpha: Any, beta: Any) -> Any:
    """Exponent of C in the loss along the frontier."""
    return -alpha * beta / (alpha + beta)


@formula(RATIO, HOFFMANN)
def power_law(C: Any, coefficient: Any, exponent: Any, unit: Any) -> Any:
    """coefficient * (C/unit)**exponent: a frontier that was fitted directly."""
    return coefficient * (C / unit) ** exponent


@formula(COMPUTE, HOFFMANN)
def power_law_inverse(value: Any, coefficient: Any, exponent: Any, unit: Any) -> Any:
    """The C at which power_law gives ``value``."""
    return unit * (value / coefficient) ** (1 / exponent)


@formula(COMPUTE, KAPLAN_6ND, ("attention over the context is left out of the FLOPs a token",))
def budget_flops(C0: Any, N: Any, D: Any) -> Any:
    """Training FLOPs C = C0 N D: C0 = 6 FLOPs a parameter and token, 2 forward and 4 backward."""
    return C0 * N * D


@formula(COMPUTE, SARDANA, ("a token served costs 2 FLOPs a parameter",))
def lifetime_flops(C0: Any, N: Any, D: Any, D_inf: Any) -> Any:
    """Training and inference FLOPs: C0 N D + 2 N D_inf."""
    return C0 * N * D + INFERENCE_FLOPS * N * D_inf


@formula(RATIO, HOFFMANN)
def token_ratio(N: Any, D: Any) -> Any:
    """Training tokens a parameter."""
    return D / N


@formula(
    GPU_HOURS,
    "definition of model FLOPs utilisation: Chowdhery et al. 2022, PaLM, appendix B <https://arxiv.org/abs/2204.02311>",
)
def budget_gpu_hours(C: Any, F: Any, mfu: Any) -> Any:
    """GPU-hours of C FLOPs on GPUs of peak F FLOP/s at a utilisation of ``mfu``."""
    return C / (F * mfu) / SECONDS_PER_HOUR


@formula(
    COMPUTE,
    "definition of model FLOPs utilisation: Chowdhery et al. 2022, PaLM, appendix B <https://arxiv.org/abs/2204.02311>",
)
def flops_of_gpu_hours(H: Any, F: Any, mfu: Any) -> Any:
    """FLOPs that H GPU-hours buy."""
    return H * SECONDS_PER_HOUR * F * mfu


@formula(USD, "price of a GPU-hour times GPU-hours")
def gpu_hours_usd(H: Any, price: Any) -> Any:
    """Price of H GPU-hours."""
    return H * price
