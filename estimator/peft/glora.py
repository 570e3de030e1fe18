"""GLoRA: five optional paths that scale and shift the weight and the bias.

Sources: Chavan et al. 2023, arXiv 2306.07967; peft 0.21.2, tuners/glora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.peft.base import BASE, BUFFER, LINEAR, TARGETS, Build, Method, Module, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """A and B on the weight; C, D and E on the bias, where the target has one; an unused path holds zeros as a
    buffer."""
    a = b.args
    r = b.rank = a.count("r")
    ab = a.choice("config_A_B", "lora", "vector", "constant", "none")
    c, de = a.choice("config_C", "lora", "vector", "none"), a.choice("config_D_E", "vector", "constant", "none")
    for m in b.match():
        if m.leaf == "router" or m.subclass:
            raise InputError(
                f"--method glora: {m.example!r} is of a class of its own, and GLoRA takes plain torch.nn.Linear only"
            )
        for path in "AB":
            yield from _path(m, f"glora_{path}", ab, (m.d_out, m.d_in), r, (m.d_out, 1))
        on = m.bias
        yield from _path(m, "glora_C", c if on else "none", (m.d_in, 1), r, (m.d_in, 1))
        for path in "DE":
            yield from _path(m, f"glora_{path}", de if on else "none", (m.d_out,), r, (m.d_out,))


def _path(
    m: Module, name: str, kind: str, full: tuple[Any, ...], r: Any, vector: tuple[Any, ...]
) -> Iterator[PeftTensor]:
    if kind == "lora":
        yield PeftTensor(m.name, f"{name}.Xd", (full[0], r), m.times)
        yield PeftTensor(m.name, f"{name}.Xu", (r, full[1]), m.times)
    elif kind == "none":
        yield PeftTensor(m.name, f"{name}.zeros", full, m.times, BUFFER, format=BASE)
    else:
        yield PeftTensor(m.name, f"{name}.X", vector if kind == "vector" else (1,), m.times)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: the layer with W + W A + B and a bias of its own, and less what it gives alone."""
    t = s.t
    base = s.base()
    result = base
    weight, bias = s.weight(), s.bias()
    a, b = _made(s, "A", s.n_w, weight.w), _made(s, "B", s.n_w, weight.w)
    c, d, e = _made(s, "C", s.d_in, weight.w), _made(s, "D", s.d_out, weight.w), _made(s, "E", s.d_out, weight.w)
    whole = ops.add(t, ops.add(t, weight, ops.mul(t, weight, a)), b, "GLoRA weight")
    if bias is not None:
        beside = algebra.mm(t, weight, c, s.d_out)
        bias = ops.add(t, ops.add(t, ops.add(t, bias, ops.mul(t, bias, d)), e), beside, "GLoRA bias")
        del beside
    adapted = s.linear(s.x, whole, bias=bias)
    result = ops.add(t, result, adapted, "output with GLoRA")
    result = ops.sub(t, result, ops.scale(t, base), "output with GLoRA, less the layer's")
    del a, b, c, d, e
    return ops.to(t, result, base.w)


def _made(s: AdaptedLayer, path: str, n: Any, w: int) -> Tensor:
    """What one path gives, in the weight's format: a product, a vector or number, or zeros."""
    name = f"glora_{path}"
    if s.has(f"{name}.Xd"):
        return ops.to(s.t, algebra.mm(s.t, s.p(f"{name}.Xd"), s.p(f"{name}.Xu"), n, f"GLoRA {path}"), w)
    return ops.to(s.t, s.p(f"{name}.X"), w) if s.has(f"{name}.X") else Tensor(n, w, None)


METHOD = Method(
    name="glora",
    title="GLoRA",
    cite="Chavan et al. 2023, arXiv 2306.07967; peft 0.21.2, tuners/glora/layer.py",
    build=build,
    args={"r": 8, "config_A_B": "lora", "config_C": "lora", "config_D_E": "constant", "bias": "none"},
    accepts=f"{TARGETS} init_weights",
    kinds=(LINEAR,),
    mapping="glora",
    forward=forward,
)
