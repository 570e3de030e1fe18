"""GLoRA: five optional paths that scale and shift the weight and the bias.

Sources: Chavan et al. 2023, arXiv 2306.07967; peft 0.21.2, tuners/glora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.peft.base import BASE, BUFFER, LINEAR, TARGETS, Build, Method, Module, PeftTensor


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


METHOD = Method(
    name="glora",
    title="GLoRA",
    cite="Chavan et al. 2023, arXiv 2306.07967; peft 0.21.2, tuners/glora/layer.py",
    build=build,
    args={"r": 8, "config_A_B": "lora", "config_C": "lora", "config_D_E": "constant", "bias": "none"},
    accepts=f"{TARGETS} init_weights",
    kinds=(LINEAR,),
    mapping="glora",
)
