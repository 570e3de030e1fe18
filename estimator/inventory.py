"""The inventory: a model as an ordered list of weights, and the folds over it.

A weight's ``name`` is its real ``state_dict`` name with the layer index replaced by ``{i}``; ``shape`` is the real
shape (ints or traced numbers); ``times`` is how many identical layers hold it, so 126 layers cost what 2 cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod
from typing import Any

from estimator.records import NamedTuple
from estimator.working import Step, alike, plus

LINEAR = "linear"  # torch.nn.Linear weight [out, in], or a bias of one
CONV1D = "conv1d"  # transformers' Conv1D weight [in, out] (GPT-2), or a bias of one
EMBEDDING = "embedding"  # token table
POSITION = "position"  # learned position table
TOKEN_TYPE = "token_type"
NORM = "norm"
HEAD = "head"  # an untied output matrix (and its bias); a torch.nn.Linear
EXPERT = "expert"  # stacked routed experts [E, ...]
ROUTER = "router"
CONV = "conv"  # torch.nn.Conv1d
OTHER = "other"  # A_log, dt_bias, relative_attention_bias, sinks ...
NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")  # of a layer or an expert, in a name


class Weight(NamedTuple):
    """One weight pattern.

    name      ``model.layers.{i}.self_attn.q_proj.weight``
    shape     its shape
    times     identical layers that hold it
    role      one of the constants above; for LINEAR/CONV1D/HEAD ``name`` minus its last part is a module
    layers    which layers: indices, or None where ``times`` consecutive layers from 0 (or a single weight)
    """

    name: str
    shape: tuple[Any, ...]
    times: Any = 1
    role: str = OTHER
    layers: tuple[int, ...] | None = None

    @property
    def elements(self) -> Any:
        """Elements of one layer's tensor."""
        return prod(self.shape)

    @property
    def total(self) -> Any:
        """Elements over all layers."""
        return self.times * prod(self.shape)

    @property
    def module(self) -> str:
        """The module that holds it: the name without its last part."""
        return self.name.rpartition(".")[0]

    @property
    def is_bias(self) -> bool:
        return self.name.endswith("bias")


def weights_of(weights: Iterable[Weight]) -> list[Step]:
    """The working of a model's parameters: modules of equal tensors together, without the path to the layer."""
    rows = [(w.module.rpartition("{i}.")[2] or w.module, _part(w.name), w.shape, w.times) for w in weights]
    items = alike(rows)
    return [Step("the model's matrices and vectors", plus(*(i.term for i in items)), items)]


def _part(name: str) -> str:
    last = name.rpartition(".")[2]
    return "" if last == "weight" else last


def total(weights: Iterable[Weight], *roles: str) -> Any:
    """Elements of the weights of these roles, or of all."""
    return sum(w.total for w in weights if not roles or w.role in roles)
