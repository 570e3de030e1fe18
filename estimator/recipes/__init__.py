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


# libraries and kernels -> how their steps are asked for
MEANT = {
    "trl": "TRL's trainers: --recipe sft, dpo, reward or grpo", "liger": "Liger's kernels: --kernels liger",
    "transformers": "Its Trainer: --recipe trainer", "hf": "Its Trainer: --recipe trainer",
    "huggingface": "Its Trainer: --recipe trainer", "accelerate": "Its steps are the Trainer's: --recipe trainer",
    "peft": "An adapter: --method lora, of any recipe", "fsdp": "Sharded: --gpus 8 --stage 3 --recipe trainer",
    "lightning": "A plain step of PyTorch: --recipe torch-mixed", "llama-factory": "The Trainer's: --recipe trainer",
    "qlora": "A method: --method qlora", "lora": "A method: --method lora",
}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``; InputError with the nearest names otherwise."""
    if name not in RECIPES:
        said = MEANT.get(name.lower(), "")
        raise unknown("--recipe", name, () if said else [*RECIPES, "all"], said)
    made: Recipe = import_module(f"estimator.recipes.{RECIPES[name]}").RECIPE
    return made
