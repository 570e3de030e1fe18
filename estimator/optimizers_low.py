"""Optimizers of other libraries: low-rank, low-bit, one moment, none.

Read in galore-torch 1.0, apollo-torch 1.0, adam-mini 1.1, schedulefree 1.4, torchao 0.18 and lomo-optim 0.1. GaLore and
APOLLO project the matrices that estimator.commands.memory.projected finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator.ops import maximum, minimum
from estimator.optimizer_kinds import Optimizer, States, Trained, copy_bytes, foreach, largest, none, nothing, one, two
from estimator.stack.blocks import block_bytes
from estimator.stack.tape import F32, I64

RANK = 128  # transformers/trainer_optimizer.py: the Trainer's default for both
BYTE = 8  # bits
LOW_BIT_LEAST = 4096  # torchao/optim/adam.py, _new_buffer: smaller tensors stay as they are


def low_rank(p: Trained) -> list[Any]:
    """Both moments of the projected gradient and the projection, along the shorter side; others as AdamW."""
    if not (p.matrix and len(p.shape) == 2):
        return two(p)
    small, big = minimum(*p.shape), maximum(*p.shape)
    r = minimum(RANK, small)
    return [big * r * p.width, big * r * p.width, small * r * p.width]


def low_rank_step(params: Sequence[Trained]) -> Any:
    """One tensor after the other. Of a projected matrix its gradient, a denominator and a quotient of low rank, and two
    of its own size: GaLore's update projected back and scaled, APOLLO's gradient scaled and limited. Of any other the
    last two."""
    most: Any = 0
    for p in params:
        held = 2 * copy_bytes(p)
        if p.matrix and len(p.shape) == 2:
            held = held + 3 * block_bytes(maximum(*p.shape) * minimum(RANK, *p.shape) * p.width)
        most = maximum(most, held)
    return most


def low_bit(bits: int, block: int) -> States:
    """torchao's quantised states: codes, an fp32 scale a block and a look-up table of each."""

    def states(p: Trained) -> list[Any]:
        if p.n < LOW_BIT_LEAST or p.n % block:
            return two(p)
        return [p.n * bits // 8, p.n // block * F32, 2**bits * F32] * 2

    return states


def low_bit_step(bits: int, block: int) -> Callable[[Sequence[Trained]], Any]:
    """One tensor after the other, in a step that torch.compile has made: both states in fp32 for the scales of their
    blocks; of 4 bits, two codes of which share a byte, their indices in 64 bits too.

    Measured: three steps, torch 2.11's inductor on one H200 (tests/accuracy/stacks_blind.json.gz).
    """

    def held(params: Sequence[Trained]) -> Any:
        most: Any = 0
        for p in params:
            if p.n >= LOW_BIT_LEAST and p.n % block == 0:
                parts = block_bytes(p.n * F32) + block_bytes(p.n // block * F32)
                most = maximum(most, 2 * (parts + (block_bytes(p.n * I64) if bits < BYTE else 0)))
        return most

    return held


def mini(p: Trained) -> list[Any]:
    """A whole first moment, a second one for each row of a matrix or each other tensor."""
    return [p.n * p.width, (p.shape[0] if len(p.shape) > 1 else 1) * p.width]


def rows_and_columns(p: Trained) -> list[Any]:
    """AdaLomo: factored second moments in fp32."""
    return [p.shape[0] * F32, p.shape[1] * F32] if len(p.shape) == 2 else [p.n * F32]


LOW = (
    Optimizer("galore", "GaLore: AdamW on gradients projected to rank 128; an SVD every 200 steps needs more",
              "galore_torch/adamw.py and galore_projector.py; Zhao et al. 2024, arXiv 2403.03507", low_rank,
              low_rank_step, projects=True),
    Optimizer("apollo", "APOLLO: scales from randomly projected gradients of rank 128",
              "apollo_torch/apollo.py; Zhu et al. 2024, arXiv 2412.05270", low_rank, low_rank_step,
              projects=True),
    Optimizer("adam-mini", "Adam-mini: one learning rate for each row of a matrix",
              "adam_mini/adam_mini.py; Zhang et al. 2024, arXiv 2406.16793", mini, largest(2)),
    Optimizer("schedule-free", "AdamW without a schedule: an averaged point in the place of the first moment",
              "schedulefree/adamw_schedulefree.py; Defazio et al. 2024, arXiv 2405.15682", two, foreach),
    Optimizer("schedule-free-radam", "RAdam without a schedule: an averaged point beside the second moments",
              "schedulefree/radam_schedulefree.py; Defazio et al. 2024, arXiv 2405.15682", two, foreach),
    Optimizer("schedule-free-sgd", "SGD without a schedule: an averaged point",
              "schedulefree/sgd_schedulefree.py; Defazio et al. 2024, arXiv 2405.15682", one, nothing),
    Optimizer("ao-adamw8bit", "torchao's AdamW with 8-bit states in blocks of 256", "torchao/optim/adam.py",
              low_bit(8, 256), low_bit_step(8, 256)),
    Optimizer("ao-adamw4bit", "torchao's AdamW with 4-bit states in blocks of 128", "torchao/optim/adam.py",
              low_bit(4, 128), low_bit_step(4, 128)),
    Optimizer("lomo", "LOMO: SGD in the backward pass, no state and no gradient that stays",
              "lomo_optim/lomo.py; Lv et al. 2023, arXiv 2306.09782", none, largest(1), in_backward=True),
    Optimizer("adalomo", "AdaLomo: factored second moments, stepped in the backward pass",
              "lomo_optim/adalomo.py; Lv et al. 2023, arXiv 2310.10195", rows_and_columns, largest(2),
              in_backward=True),
)  # fmt: skip
