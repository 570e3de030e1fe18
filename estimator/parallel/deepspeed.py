"""DeepSpeed's memory estimators, rule by rule: what ``estimate_zero2/3_model_states_mem_needs`` print.

Their "GB" are GiB. They count 20 bytes a parameter: 16-bit weights and gradients, fp32 gradients, master weights and
moments; the host's figure is half as large again (additional_buffer_factor=1.5).
Source: DeepSpeed docs, memory.rst; deepspeed/runtime/zero/stage_1_and_2.py and stage3.py.
"""

from __future__ import annotations

from typing import Any

from estimator.formulas.zero import deepspeed_stage2_bytes, deepspeed_stage3_bytes
from estimator.ops import maximum
from estimator.records import dataclass

NUM, DEN = 3, 2  # additional_buffer_factor = 1.5
ALL = 20


@dataclass(frozen=True, slots=True)
class Printed:
    """GPU bytes, host bytes a node, and host bytes without zero.Init (stage 3 only)."""

    gpu: Any
    host: Any
    host_without_init: Any = None


def estimate(P: Any, P_max: Any, gpus: Any, node: Any, stage: int, offload: str, trained: Any = None) -> Printed:
    """What the estimators print for ``gpus`` GPUs, ``node`` in each node. Stage 0 is everything on every GPU.

    trained: of the P parameters, those that train: the others have no gradient and no state on the host. The
    estimators, and so None, take all.
    """
    T = P if trained is None else trained
    nodes = maximum(1, gpus // node)
    each = gpus // nodes
    if stage == 0:
        return Printed(ALL * P, P * 4 * each * NUM // DEN)
    if stage < 3:
        if offload == "none":
            return Printed(deepspeed_stage2_bytes(P, gpus), P * 4 * each * NUM // DEN)
        return Printed(2 * P, maximum(4 * gpus * P, 16 * T) * NUM // DEN)
    if offload == "none":
        return Printed(deepspeed_stage3_bytes(P, P_max, gpus), P_max * 4 * each * NUM // DEN, P * 4 * each * NUM // DEN)
    weights, gpu = (2 * P, 4 * P_max) if offload == "all" else (0, 4 * P_max + 2 * P // gpus)
    whole = (16 * T + weights) * NUM // (DEN * nodes)
    return Printed(gpu, whole, maximum(P * 4 * each * NUM // DEN, whole))


def largest_module(weights: Any) -> Any:
    """Parameters of the module with most of its own (stage3.py, model_to_params): its weight and bias together."""
    modules: dict[str, Any] = {}
    for w in weights:
        modules[w.module] = modules.get(w.module, 0) + w.elements
    return maximum(*modules.values())
