"""Optimizers: what each keeps between steps and what it holds during one.

State bytes are exact: whole tensors in their width, bitsandbytes' block scales included. Step temporaries follow
torch/optim/{adam,adamw,sgd,_adafactor,_muon}.py and bitsandbytes/optim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import unknown
from estimator.ops import ceil_div, maximum
from estimator.optimizer_kinds import (
    Optimizer,
    States,
    Trained,
    copy_bytes,
    foreach,
    largest,
    none,
    nothing,
    one,
    two,
)
from estimator.optimizers_low import LOW
from estimator.stack.blocks import block_bytes
from estimator.stack.tape import F32
from estimator.trace import value_of

EIGHT_BIT_BLOCK = 256  # bitsandbytes 0.4x: blockwise states share one fp32 scale in 256
EIGHT_BIT_LEAST = 4096  # bitsandbytes min_8bit_size: smaller tensors keep 32-bit states
PAGED_LEAST = 100_000  # bitsandbytes get_state_buffer: smaller tensors are not paged
QUANTILE_MAP = 256 * F32  # one look-up table a state


def fused_states(p: Trained) -> list[Any]:
    return [p.n * p.width] * 2 + [F32]


def bitsandbytes(k: int, bits: int, paged: bool) -> tuple[States, States]:
    """bitsandbytes' ``k`` states of a tensor: (those in the allocator's memory, those in unified memory).

    Source: bitsandbytes/optim/optimizer.py, init_state and get_state_buffer.
    """

    def parts(p: Trained) -> tuple[list[Any], list[Any]]:
        """(states, scales); tensors of fewer than 4,096 elements and embeddings that say so stay in 32 bits."""
        if bits == 32 or p.wide or p.n < EIGHT_BIT_LEAST:
            return [p.n * F32] * k, []
        return [p.n] * k, [ceil_div(p.n, EIGHT_BIT_BLOCK) * F32] * k

    def held(p: Trained) -> list[Any]:
        states, scales = parts(p)
        return scales if paged and p.n >= PAGED_LEAST else states + scales

    def managed(p: Trained) -> list[Any]:
        return parts(p)[0] if paged and p.n >= PAGED_LEAST else []

    return held, managed


def factored(p: Trained) -> list[Any]:
    """Adafactor: a row and a column of second moments for matrices, all of them for vectors."""
    if len(p.shape) < 2 or p.n == 0:
        return [p.n * p.width, F32]
    lead = p.n // (p.shape[-1] * p.shape[-2])
    return [lead * p.shape[-2] * p.width, lead * p.shape[-1] * p.width, F32]


def factored_wide(p: Trained) -> list[Any]:
    """transformers' Adafactor: row and column means in fp32, whatever the weights are."""
    if len(p.shape) < 2 or p.n == 0:
        return [p.n * F32]
    return [p.n // p.shape[-1] * F32, p.n // p.shape[-2] * F32]


def in_turn(params: Sequence[Trained]) -> list[tuple[Trained, Trained | None]]:
    """Every tensor with the one that is stepped before it: what decays first, equal layers follow each other."""
    out: list[tuple[Trained, Trained | None]] = []
    before: Trained | None = None
    first: dict[Any, Trained] = {}
    for p in sorted(params, key=lambda p: not p.decays):
        out.append((p, before))
        if value_of(p.times) > 1:
            key = value_of(p.times)
            first.setdefault(key, p)
            out.append((first[key], p))
        before = p
    return out


def grokadamw_step(params: Sequence[Trained]) -> Any:
    """grokadamw.py, _update_group: one tensor after the other, its three states fetched from the host.

    Beside them the amplified gradient and its summand, or the root of the second moments; the names of the tensor
    before are taken one by one.
    """
    most: Any = 0
    for p, before in in_turn(params):
        own, last = copy_bytes(p), copy_bytes(before) if before else 0
        most = maximum(most, 5 * own + last, 2 * own + 4 * last)
    return most


def stable_states(p: Trained) -> list[Any]:
    """optimi/stableadamw.py, _init_state: two moments, a Kahan sum of 16-bit weights, epsilon and a mean square."""
    return [p.n * p.width] * (2 if p.width == F32 else 3) + [p.width, F32] + ([1] if p.width == F32 else [])


def adafactor_step(params: Sequence[Trained]) -> Any:
    """transformers/optimization.py, Adafactor.step: one tensor after the other, in fp32.

    Beside the squared gradient and its sum with epsilon (later: the update and its negative): fp32 copies of a 16-bit
    gradient and weight; the update of the tensor before lives until the name is taken.
    """
    most: Any = 0
    for p, before in in_turn(params):
        copies = 4 if p.width != F32 else 2
        most = maximum(most, copies * block_bytes(p.n * F32) + (block_bytes(before.n * F32) if before else 0))
    return most


def muon_states(p: Trained) -> list[Any]:
    return one(p) if p.matrix and len(p.shape) == 2 else two(p)


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


def bnb(name: str, meaning: str, k: int, bits: int, paged: bool = False, passes: int = 0) -> Optimizer:
    """An optimizer of bitsandbytes: its kernels update in place; 8-bit states share a look-up table each."""
    held, managed = bitsandbytes(k, bits, paged)
    return Optimizer(
        name, meaning, "bitsandbytes/optim/optimizer.py; Dettmers et al. 2022, arXiv 2110.02861", held, nothing,
        k * QUANTILE_MAP if bits == 8 else 0, managed, passes=passes,
    )  # fmt: skip


OPTIMIZERS: dict[str, Optimizer] = {
    o.name: o
    for o in (
        Optimizer(
            "adamw",
            "AdamW as PyTorch runs it by default: foreach",
            "torch/optim/adam.py, _multi_tensor_adam",
            two,
            foreach,
            passes=20,  # lerp 3, mul 2, addcmul 3, sqrt 2, div 2, add 2, addcdiv 4, decay 2
        ),
        Optimizer("adamw-fused", "AdamW in one kernel", "torch/optim/adam.py, _fused_adam", fused_states, nothing,
                  passes=7),
        Optimizer(
            "adamw-forloop",
            "AdamW, one tensor after the other",
            "torch/optim/adam.py, _single_tensor_adam",
            two,
            largest(2),
            passes=20,
        ),
        bnb("adamw8bit", "AdamW with 8-bit states in blocks of 256", 2, 8, passes=5),
        bnb("paged-adamw8bit", "AdamW8bit whose states live in pageable unified memory", 2, 8, True),
        bnb("paged-adamw", "AdamW whose fp32 states live in pageable unified memory", 2, 32, True),
        bnb("lion8bit", "Lion with an 8-bit momentum in blocks of 256", 1, 8),
        bnb("paged-lion8bit", "Lion8bit whose momentum lives in pageable unified memory", 1, 8, True),
        bnb("lion-bnb", "bitsandbytes' Lion with an fp32 momentum", 1, 32),
        bnb("paged-lion", "bitsandbytes' Lion whose fp32 momentum lives in pageable unified memory", 1, 32, True),
        bnb("ademamix", "AdEMAMix: two first moments and a second one in fp32", 3, 32),
        bnb("ademamix8bit", "AdEMAMix with 8-bit states in blocks of 256", 3, 8),
        bnb("paged-ademamix8bit", "AdEMAMix8bit whose states live in pageable unified memory", 3, 8, True),
        bnb("paged-ademamix", "AdEMAMix whose fp32 states live in pageable unified memory", 3, 32, True),
        bnb("rmsprop8bit", "RMSProp with 8-bit states in blocks of 256", 1, 8),
        bnb("rmsprop-bnb", "bitsandbytes' RMSProp with fp32 second moments", 1, 32),
        Optimizer("rmsprop", "RMSProp: second moments", "torch/optim/rmsprop.py, _multi_tensor_rmsprop", one, foreach),
        Optimizer("adagrad", "Adagrad: the sum of squared gradients", "torch/optim/adagrad.py, _multi_tensor_adagrad",
                  one, lambda params: 2 * foreach(params)),  # the gradients times -lr, and the roots
        Optimizer("sgd", "stochastic gradient descent", "torch/optim/sgd.py", none, nothing, passes=3),
        Optimizer("sgd-momentum", "SGD with momentum", "torch/optim/sgd.py", one, nothing, passes=5),
        Optimizer(
            "adafactor",
            "Adafactor: factored second moments",
            "torch/optim/_adafactor.py; Shazeer & Stern 2018, arXiv 1804.04235",
            factored,
            largest(1),
            passes=12,
        ),
        Optimizer(
            "adafactor-hf",
            "transformers' Adafactor: factored second moments in fp32, no momentum",
            "transformers/optimization.py, Adafactor; what the Trainer calls adafactor",
            factored_wide,
            adafactor_step,
        ),
        Optimizer(
            "lion",
            "Lion: one momentum",
            "Chen et al. 2023, arXiv 2302.06675, algorithm 2 (one update of the largest tensor)",
            one,
            largest(1),
            passes=9,
        ),
        Optimizer(
            "muon",
            "Muon on matrices, AdamW on the rest",
            "torch/optim/_muon.py; Jordan et al. 2024",
            muon_states,
            muon_step,
            passes=5,
        ),
        Optimizer("grokadamw", "GrokAdamW: three states, on the host between steps", "grokadamw 0.1.2, grokadamw.py",
                  none, grokadamw_step),
        Optimizer("stable-adamw", "StableAdamW of optimi: Triton kernels, a Kahan sum for 16-bit weights",
                  "torch-optimi 0.3.3, optimi/stableadamw.py; Wortsman et al. 2023, arXiv 2304.13013", stable_states,
                  nothing),
        *LOW,
    )
}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer called ``name``; InputError with the nearest names otherwise."""
    if name not in OPTIMIZERS:
        raise unknown("--optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def state_bytes(optimizer: Optimizer, params: Sequence[Trained]) -> Any:
    """Bytes of all states, exactly (no allocator rounding), wherever they live."""
    params = [p for p in params if value_of(p.n)]  # rows of no tokens have none
    return optimizer.fixed + sum((p.times * sum(optimizer.states(p) + optimizer.managed(p)) for p in params), 0)


def managed_bytes(optimizer: Optimizer, params: Sequence[Trained]) -> Any:
    """What of them lies in unified memory, which the driver moves between the host and the card."""
    return sum((p.times * sum(optimizer.managed(p)) for p in params), 0)


def held_bytes(optimizer: Optimizer, params: Sequence[Trained]) -> Any:
    """What the allocator counts for them."""
    return optimizer.fixed + sum((p.times * sum(block_bytes(x) for x in optimizer.states(p)) for p in params), 0)


__all__ = [
    "OPTIMIZERS", "Optimizer", "Trained", "copy_bytes", "find_optimizer", "held_bytes", "managed_bytes", "state_bytes",
]  # fmt: skip
