"""Formulas of sharded training: what a GPU holds and sends, pipeline bubbles, offloading.

Source of the stages: Rajbhandari et al. 2020, ZeRO, https://arxiv.org/abs/1910.02054, sections 5 and 7.
"""

from __future__ import annotations

from typing import Any

from estimator.formula import Citation, formula
from estimator.ops import ceil_div, minimum
from estimator.units import BYTES, COUNT, ELEMENTS, RATIO

ZERO = Citation("Rajbhandari et al. 2020, ZeRO, sections 5 and 7", "https://arxiv.org/abs/1910.02054")
RING = Citation("Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms, JPDC 69(2); NCCL's ring")
PIPELINE = Citation("Narayanan et al. 2021, Megatron-LM, section 2.2", "https://arxiv.org/abs/2104.04473")
KORTHIKANTI = Citation("Korthikanti et al. 2022, section 4 and Table 2", "https://arxiv.org/abs/2205.05198")
ZERO_BUBBLE = Citation("Qi et al. 2023, Zero Bubble Pipeline Parallelism, Table 2", "https://arxiv.org/abs/2401.10241")
@formula(unit=BYTES, cite=ZERO)
def replicated_bytes(P: Any, w: Any) -> Any:
    """P numbers of w bytes that every GPU holds in full."""
    return w * P


@formula(unit=BYTES, cite=ZERO, assumes=("the buffer is padded to a multiple of N numbers",))
def sharded_bytes(P: Any, N: Any, w: Any) -> Any:
    """One of N equal shards of P numbers of w bytes."""
    return w * ceil_div(P, N)


@formula(unit=ELEMENTS, cite=RING, assumes=("a ring; a tree sends as much in the limit",))
def ring_elements(n: Any, N: Any) -> Any:
    """Elements a GPU sends in a reduce-scatter or an all-gather of n over N: n*(N-1)/N; an all-reduce is both."""
    return (N - 1) * ceil_div(n, N)


@formula(unit=BYTES, cite=Citation("DeepSpeed stage_1_and_2.py, estimate_zero2_model_states_mem_needs; memory.rst"))
def deepspeed_stage2_bytes(P: Any, N: Any) -> Any:
    """16-bit weights and gradients whole, fp32 gradients, master weights and moments sharded: 4P + 16P/N."""
    return 4 * P + 16 * P // N


@formula(unit=BYTES, cite=Citation("DeepSpeed stage3.py, estimate_zero3_model_states_mem_needs; memory.rst"))
def deepspeed_stage3_bytes(P: Any, P_max: Any, N: Any) -> Any:
    """The largest layer's 16-bit weights and gradients whole, 18 bytes of everything else sharded: 4P_max + 18P/N."""
    return 4 * P_max + 18 * P // N


@formula(unit=COUNT, cite=PIPELINE)
def in_flight_1f1b(p: Any, i: Any, m: Any) -> Any:
    """Micro-batches whose activations stage i (from 0) of p holds at once: one for itself and each later stage."""
    return minimum(m, p - i)


@formula(unit=COUNT, cite=KORTHIKANTI)
def in_flight_interleaved(p: Any, i: Any, m: Any, v: Any) -> Any:
    """Chunks (v a GPU) whose activations stage i holds: (v-1)*p of the warm-up, 2 for each later stage, 1."""
    return minimum(m * v, (v - 1) * p + 2 * (p - 1 - i) + 1)


@formula(unit=COUNT, cite=ZERO_BUBBLE)
def in_flight_zb_h2(p: Any, i: Any, m: Any) -> Any:
    """Micro-batches that stage i of ZB-H2 holds: up to 2p-1, which fills the bubble."""
    return minimum(m, 2 * (p - i) - 1)


@formula(unit=RATIO, cite=PIPELINE, assumes=("all stages take the same time", "communication is hidden"))
def bubble_1f1b(p: Any, m: Any) -> Any:
    """Idle over ideal time of 1F1B and GPipe: (p-1)/m."""
    return (p - 1) / m


@formula(unit=RATIO, cite=PIPELINE, assumes=("all stages take the same time", "communication is hidden"))
def bubble_interleaved(p: Any, m: Any, v: Any) -> Any:
    """Idle over ideal time with v chunks of layers a GPU: (p-1)/(v*m)."""
    return (p - 1) / (v * m)


@formula(
    unit=RATIO, cite=ZERO_BUBBLE, assumes=("forward, input-gradient and weight-gradient passes take the same time",)
)
def bubble_zb_h1(p: Any, m: Any) -> Any:
    """Idle over ideal time of ZB-H1, whose memory is 1F1B's: a third of 1F1B's bubble."""
    return (p - 1) / (3 * m)
