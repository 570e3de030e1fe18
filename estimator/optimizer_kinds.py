"""What an optimizer is to this program: the states it keeps, what it holds during a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator.ops import maximum
from estimator.records import dataclass
from estimator.stack.blocks import block_bytes


@dataclass(frozen=True, slots=True)
class Trained:
    """Equal tensors that train: shape, bytes an element, how many.

    matrix: of a linear layer; wide: its 8-bit states stay in 32 bits (bitsandbytes' GlobalOptimManager);
    decays: False where the Trainer steps it after those whose weights decay (get_decay_parameter_names)
    """

    shape: tuple[Any, ...]
    width: int
    times: Any = 1
    matrix: bool = True
    wide: bool = False
    decays: bool = True

    @property
    def n(self) -> Any:
        out: Any = 1
        for x in self.shape:
            out = out * x
        return out


States = Callable[[Trained], list[Any]]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """states(p): bytes of each state tensor of ``p`` that the allocator holds, managed(p): of each in unified memory;
    step(all): bytes held at most during a step; fixed: in all; in_backward: each gradient is stepped and dropped as
    soon as it is there; passes: tensors of a parameter's size that a step reads and writes (torch/optim/*.py), 0 where
    they were not counted; projects: the gradients of chosen matrices are projected."""

    name: str
    meaning: str
    source: str
    states: States
    step: Callable[[Sequence[Trained]], Any]
    fixed: int = 0
    managed: States = lambda p: []
    in_backward: bool = False
    passes: int = 0
    projects: bool = False


def copy_bytes(p: Trained) -> Any:
    """One more tensor like ``p``."""
    return block_bytes(p.n * p.width)


def two(p: Trained) -> list[Any]:
    return [p.n * p.width] * 2


def one(p: Trained) -> list[Any]:
    return [p.n * p.width]


def none(p: Trained) -> list[Any]:
    return []


def nothing(params: Sequence[Trained]) -> Any:
    return 0


def foreach(params: Sequence[Trained]) -> Any:
    """_multi_tensor_adamw: the square roots of all second moments of one width at once."""
    by_width: dict[int, Any] = {}
    for p in params:
        by_width[p.width] = by_width.get(p.width, 0) + p.times * copy_bytes(p)
    return maximum(0, *by_width.values())


def largest(copies: int) -> Callable[[Sequence[Trained]], Any]:
    def held(params: Sequence[Trained]) -> Any:
        return copies * maximum(0, *(copy_bytes(p) for p in params))

    return held
