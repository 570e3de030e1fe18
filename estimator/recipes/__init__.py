"""Recipes: one file each, found by name. ``RECIPES`` maps the name that ``--recipe`` takes to its module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from estimator.errors import unknown

if TYPE_CHECKING:
    from estimator.recipes.base import Recipe

RECIPES: dict[str, str] = {
    "trainer": "trainer",
    "sft": "sft",
    "dpo": "dpo",
    "reward": "reward",
    "grpo": "grpo",
    "axolotl": "axolotl",
    "unsloth": "unsloth",
    "torchtune": "torchtune",
    "litgpt": "litgpt",
    "torch": "torch",
    "torch-mixed": "torch_mixed",
    "torch-bf16": "torch_bf16",
    "torch-fp32": "torch_fp32",
    "megatron": "megatron",
    "zero-paper": "zero_paper",
    "deepspeed": "deepspeed",
}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``; InputError with the nearest names otherwise."""
    if name not in RECIPES:
        raise unknown("--recipe", name, [*RECIPES, "all"])
    made: Recipe = import_module(f"estimator.recipes.{RECIPES[name]}").RECIPE
    return made
