"""LoRA on a bare parameter (stacked experts, a router's matrix): W + B A is written out and takes W's place.

Source: peft 0.21.2 tuners/lora/layer.py, ParamWrapper and _LoraParameterProxy; torch/nn/utils/parametrize.py.
"""

from __future__ import annotations

from typing import Any

from estimator.stack import ops, products
from estimator.stack.machine import LoraSpec, Machine
from estimator.stack.nn import UNLOGGED, product
from estimator.stack.tape import Param, Tensor


def delta(m: Machine, name: str, n: Any, weight: Param, registered: bool = True) -> Tensor | None:
    """ParamWrapper.get_delta_weight: B A in the adapters' width, scaled, in the weight's; None where none is adapted.

    Registering the parametrisation adds it to the weight once, without gradients (ParametrizationList.__init__); of a
    stack of experts (``registered``) B A is then multiplied out once more.
    """
    spec = m.adapters(name)
    if spec is None:
        return None
    t = m.t
    a, b = factors(m, name, spec)
    made = product(t, a, b, None, n, "B A written out", part=UNLOGGED)
    d_out = spec.size_b // spec.rank
    if t.work is not None:
        if registered:
            products.log(t, made, f"{name}.adapter_0", products.ADAPTER, d_out, spec.rank, spec.size_a // spec.rank,
                         weight=spec.size_a, grads=(False, False))  # fmt: skip
        products.log(t, made, f"{name}.adapter_1", products.ADAPTER, d_out, spec.rank, spec.size_a // spec.rank,
                     weight=spec.size_a, grads=(True, True))  # fmt: skip
    scaled = ops.scale(t, made, "B A, scaled")
    del made
    found = ops.to(t, scaled, weight.w)
    del scaled
    checked = t.alloc(n, weight.w, "W + B A, when it is registered")
    del checked
    return found


def factors(m: Machine, name: str, spec: LoraSpec) -> tuple[Param, Param]:
    """A [r, d_in] and B [d_out, r] of all experts."""
    a = m.param(f"{name}.lora_A", spec.size_a, spec.width, True)
    return a, m.param(f"{name}.lora_B", spec.size_b, spec.width, True)


def with_delta(m: Machine, weight: Param, found: Tensor | None) -> Tensor:
    """What the module reads where it names the parameter: W, or W + B A, made anew."""
    return weight if found is None else ops.add(m.t, weight, found, "W + B A")
