"""Optimizers: what each keeps between steps and what it holds during one.

State bytes are exact: whole tensors in their width, bitsandbytes' block scales included. Step temporaries follow
torch/optim/{adam,adamw,sgd,_adafactor,_muon}.py and bitsandbytes/optim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from estimator.errors import unknown
from estimator.ops import ceil_div, maximum
from estimator.stack.tape import F32, block_bytes

EIGHT_BIT_BLOCK = 256  # bitsandbytes 0.4x: blockwise states share one fp32 scale in 256
EIGHT_BIT_LEAST = 4096  # bitsandbytes min_8bit_size: smaller tensors keep 32-bit states
QUANTILE_MAP = 256 * F32  # one look-up table a state


@dataclass(frozen=True, slots=True)
class Trained:
    """Equal tensors that train: shape, bytes an element, how many."""

    shape: tuple[Any, ...]
    width: int
    times: Any = 1
    matrix: bool = True

    @property
    def n(self) -> Any:
        out: Any = 1
        for x in self.shape:
            out = out * x
        return out


States = Callable[[Trained], list[Any]]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """states(p): bytes of each state tensor of ``p``; step(all): bytes held at most during a step; fixed: in all."""

    name: str
    meaning: str
    source: str
    states: States
    step: Callable[[Sequence[Trained]], Any]
    fixed: int = 0
    offloaded: bool = False


def copy_bytes(p: Trained) -> Any:
    """One more tensor like ``p``."""
    return block_bytes(p.n * p.width)


def two(p: Trained) -> list[Any]:
    return [p.n * p.width] * 2


def one(p: Trained) -> list[Any]:
    return [p.n * p.width]


def none(p: Trained) -> list[Any]:
    return []


def fused_states(p: Trained) -> list[Any]:
    return [p.n * p.width] * 2 + [F32]


def eight_bit(p: Trained) -> list[Any]:
    if p.n < EIGHT_BIT_LEAST:
        return [p.n * F32] * 2
    scales = ceil_div(p.n, EIGHT_BIT_BLOCK) * F32
    return [p.n, p.n, scales, scales]


def factored(p: Trained) -> list[Any]:
    """Adafactor: a row and a column of second moments for matrices, all of them for vectors."""
    if len(p.shape) < 2:
        return [p.n * p.width, F32]
    lead = p.n // (p.shape[-1] * p.shape[-2])
    return [lead * p.shape[-2] * p.width, lead * p.shape[-1] * p.width, F32]


def muon_states(p: Trained) -> list[Any]:
    return one(p) if p.matrix and len(p.shape) == 2 else two(p)


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


def muon_step(params: Sequence[Trained]) -> Any:
    """Newton-Schulz in bf16 of the largest matrix: the update, its Gram matrix twice, and one product."""
    most: Any = 0
    rest: Any = 0
    for p in params:
        if p.matrix and len(p.shape) == 2:
            small = p.shape[0] if p.shape[0] <= p.shape[1] else p.shape[1]
            most = maximum(
                most, block_bytes(p.n * p.width) + 2 * block_bytes(p.n * 2) + 3 * block_bytes(small * small * 2)
            )
        else:
            rest = rest + p.times * copy_bytes(p)
    return maximum(most, rest)


OPTIMIZERS: dict[str, Optimizer] = {
    o.name: o
    for o in (
        Optimizer(
            "adamw",
            "AdamW as PyTorch runs it by default: foreach",
            "torch/optim/adam.py, _multi_tensor_adam",
            two,
            foreach,
        ),
        Optimizer("adamw-fused", "AdamW in one kernel", "torch/optim/adam.py, _fused_adam", fused_states, nothing),
        Optimizer(
            "adamw-forloop",
            "AdamW, one tensor after the other",
            "torch/optim/adam.py, _single_tensor_adam",
            two,
            largest(2),
        ),
        Optimizer(
            "adamw8bit",
            "AdamW with 8-bit states in blocks of 256",
            "bitsandbytes optim/adamw.py; Dettmers et al. 2022, arXiv 2110.02861",
            eight_bit,
            nothing,
            2 * QUANTILE_MAP,
        ),
        Optimizer(
            "paged-adamw8bit",
            "AdamW8bit whose states live in pageable unified memory",
            "bitsandbytes optim/adamw.py",
            eight_bit,
            nothing,
            2 * QUANTILE_MAP,
            True,
        ),
        Optimizer(
            "paged-adamw",
            "AdamW whose fp32 states live in pageable unified memory",
            "bitsandbytes optim/adamw.py",
            lambda p: [p.n * F32] * 2,
            nothing,
            0,
            True,
        ),
        Optimizer("sgd", "stochastic gradient descent", "torch/optim/sgd.py", none, nothing),
        Optimizer("sgd-momentum", "SGD with momentum", "torch/optim/sgd.py", one, nothing),
        Optimizer(
            "adafactor",
            "Adafactor: factored second moments",
            "torch/optim/_adafactor.py; Shazeer & Stern 2018, arXiv 1804.04235",
            factored,
            largest(1),
        ),
        Optimizer(
            "lion",
            "Lion: one momentum",
            "Chen et al. 2023, arXiv 2302.06675, algorithm 2 (one update of the largest tensor)",
            one,
            largest(1),
        ),
        Optimizer(
            "muon",
            "Muon on matrices, AdamW on the rest",
            "torch/optim/_muon.py; Jordan et al. 2024",
            muon_states,
            muon_step,
        ),
    )
}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer called ``name``; InputError with the nearest names otherwise."""
    if name not in OPTIMIZERS:
        raise unknown("--optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def state_bytes(optimizer: Optimizer, params: Sequence[Trained]) -> Any:
    """Bytes of all states, exactly (no allocator rounding)."""
    return optimizer.fixed + sum((p.times * sum(optimizer.states(p)) for p in params), 0)


def held_bytes(optimizer: Optimizer, params: Sequence[Trained]) -> Any:
    """What the allocator counts for them."""
    return optimizer.fixed + sum((p.times * sum(block_bytes(x) for x in optimizer.states(p)) for p in params), 0)
