"""Axolotl: transformers' Trainer, with LoRA as functions of its own, which it switches on by itself.

axolotl 0.21, loaders/model.py and utils/schemas/{config,validation}.py. Embeddings and norms that kbit preparation
widens go back to 16 bits where an adapter trains. Not measured.
"""

from dataclasses import replace

from estimator.formula import Citation
from estimator.recipes.trainer import RECIPE as TRAINER

RECIPE = replace(
    TRAINER, name="axolotl", title="Axolotl", adapters=True,
    cite=Citation("axolotl 0.21, loaders/model.py, kernels/lora.py, utils/schemas/validation.py"),
    note="the Trainer, with LoRA's own kernels (lora_mlp_kernel and its siblings, on by default)",
)  # fmt: skip
