"""LoRA on a bare parameter (stacked experts, a router's matrix): W + B A is written out and takes W's place.

Source: peft 0.21.0 and 0.21.2, tuners/lora/layer.py: ParamWrapper, _LoraFactorsProxy (of a stack of experts) and
_LoraParameterProxy (of one matrix); torch/nn/utils/parametrize.py.
"""

from __future__ import annotations

from typing import Any

from estimator.stack import ops, products
from estimator.stack.machine import LoraSpec, Machine
from estimator.stack.nn import UNLOGGED, product
from estimator.stack.tape import GradFn, Param, Tape, Tensor

Factors = tuple[Tensor, Tensor]


def delta(m: Machine, name: str, n: Any, weight: Param) -> Tensor | None:
    """ParamWrapper.get_delta_weight: B A in the adapters' width, scaled, in the weight's; None where none is adapted.

    Registering the parametrisation adds it to the weight once, without gradients (ParametrizationList.__init__).
    """
    spec = m.adapters(name)
    if spec is None:
        return None
    t = m.t
    a, b = factors(m, name, spec)
    made = product(t, a, b, None, n, "B A written out", part=UNLOGGED)
    log(t, made, name, spec, 1)
    scaled = ops.scale(t, made, "B A, scaled")
    del made
    found = ops.to(t, scaled, weight.w)
    del scaled
    checked = t.alloc(n, weight.w, "W + B A, when it is registered")
    del checked
    return found


def folded(m: Machine, name: str, n: Any, weight: Param) -> Factors | None:
    """ParamWrapper.get_delta_factors of a stack of experts: A and B in the weight's width; None where none is adapted.
    Registering multiplies them out onto the weight once, without gradients."""
    spec = m.adapters(name)
    if spec is None:
        return None
    given = zip(factors(m, name, spec), (_seen_bwd, _turned_bwd), strict=True)
    a, b = (ops.to(m.t, seen(m.t, x, fn), weight.w) for x, fn in given)
    checked = m.t.alloc(n, weight.w, "W + B A, when it is registered")
    log(m.t, checked, name, spec, 0)
    return a, b


def log(t: Tape, made: Tensor, name: str, spec: LoraSpec, at: int) -> None:
    """B A, multiplied out: where the parametrisation is registered (``at`` 0), or where it is read."""
    if t.work is not None:
        products.log(t, made, f"{name}.adapter_{at}", products.ADAPTER, spec.size_b // spec.rank, spec.rank,
                     spec.size_a // spec.rank, weight=spec.size_a, grads=(bool(at), bool(at)))  # fmt: skip


def factors(m: Machine, name: str, spec: LoraSpec) -> tuple[Param, Param]:
    """A [r, d_in] and B [d_out, r] of all experts."""
    a = m.param(f"{name}.lora_A", spec.size_a, spec.width, True)
    return a, m.param(f"{name}.lora_B", spec.size_b, spec.width, True)


def seen(t: Tape, x: Tensor, fn: Any) -> Tensor:
    """A factor seen expert by expert: a view, made before the module runs; its gradient arrives after the module's."""
    out = Tensor(x.n, x.w, x.st)
    if t.grad and x.node is not None:
        t.record(out, (x,), fn)
    return out


def _seen_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (g,)


def _turned_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """B's experts are its last axis: what comes expert by expert is copied."""
    return (t.alloc(g.n, g.w, "gradient of a factor, in its order"),)


def with_delta(m: Machine, weight: Param, found: Tensor | None) -> Tensor:
    """What the module reads where it names the parameter: W, or W + B A, made anew."""
    return weight if found is None else ops.add(m.t, weight, found, "W + B A")


def with_factors(m: Machine, weight: Param, found: Factors | None) -> Tensor:
    """The same of a stack of experts: one baddbmm, which keeps both factors."""
    if found is None:
        return weight
    a, b = found
    made = m.t.emit("W + B A", weight.n, weight.w, (weight, a, b), _folded_bwd, (a.st, b.st), (a.n, b.n))
    spec = m.adapters(weight.name)
    assert spec is not None
    log(m.t, made, weight.name, spec, 1)
    return made


def _folded_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """baddbmm: each factor's gradient is a product, then scaled."""
    outs = [t.alloc(n, g.w, "gradient of a factor, scaled") for n in node.extra]
    return (g if node.ins[0] is not None else None, *outs)
