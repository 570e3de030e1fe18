"""What sharding needs to know of a recipe: bytes a parameter of each kind, and the width of what is sent."""

from __future__ import annotations

from estimator.errors import InputError, unknown
from estimator.recipes import find_recipe
from estimator.recipes.base import Recipe
from estimator.records import dataclass

# recipe -> (bytes of an element when weights are gathered, when gradients are reduced, flat shards).
# Flat: shards are cut from one padded buffer. Not flat: FSDP2 cuts each tensor along its first dimension, and
# ZeroRedundancyOptimizer gives whole tensors to ranks.
SENT: dict[str, tuple[int, int, bool]] = {
    "zero-paper": (2, 2, True),
    "deepspeed": (2, 2, True),
    "megatron": (2, 4, True),  # Megatron-LM reduces its fp32 main gradients
    "trainer": (2, 2, False),  # and TRL's: weights, gradients and what is sent as the checkpoint holds them
    "sft": (2, 2, False),
    "dpo": (2, 2, False),
    "grpo": (2, 2, False),
    "reward": (2, 2, False),
    "axolotl": (2, 2, False),
    "litgpt": (2, 2, False),
    "torchtune": (2, 2, False),
    "unsloth": (2, 2, False),
    "torch": (2, 2, False),
    "torch-mixed": (2, 4, False),  # MixedPrecisionPolicy(param_dtype=bf16, reduce_dtype=fp32)
    "torch-bf16": (2, 2, False),
    "torch-fp32": (4, 4, False),
}
MOMENTS = 2  # Adam's numbers of state a parameter, which a recipe's ``states`` covers
# optimizer -> (numbers of state a parameter, bytes of one where it is not the recipe's)
ELEMENTWISE: dict[str, tuple[int, int | None]] = {
    "adamw": (2, None),
    "adamw-fused": (2, None),
    "adamw-forloop": (2, None),
    "adamw8bit": (2, 1),
    "lion": (1, None),
    "sgd-momentum": (1, None),
    "sgd": (0, None),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes a parameter: weight, gradient, optimizer (master and states); gathered and reduced: an element sent."""

    recipe: Recipe
    weight: int
    gradient: int
    optimizer: int
    gathered: int
    reduced: int
    flat: bool


def rates(recipe: str, optimizer: str) -> Rates:
    """The rates of a recipe under an optimizer; InputError for optimizers whose state depends on a tensor's shape."""
    if recipe.strip().lower() not in SENT:
        raise unknown("--recipe", recipe, SENT)
    r = find_recipe(recipe.strip().lower())
    if optimizer in ("adafactor", "muon"):
        raise InputError(
            f"--optimizer {optimizer}: its state depends on each tensor's shape and is not sharded evenly. "
            f"Use {', '.join(ELEMENTWISE)}"
        )
    if optimizer not in ELEMENTWISE:
        raise unknown("--optimizer", optimizer, ELEMENTWISE)
    count, width = ELEMENTWISE[optimizer]
    states = count * (r.states // MOMENTS if width is None else width)
    gathered, reduced, flat = SENT[r.name]
    return Rates(r, r.weights, r.gradients, r.master + states, gathered, reduced, flat)
