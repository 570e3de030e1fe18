"""DeepSpeed: its ZeRO optimizers around a 16-bit model.

``llmcalc zero`` counts as DeepSpeed's estimators do (20 bytes a parameter, gradients accumulated in fp32); ``memory``
follows the engine buffer by buffer (parallel/zero_engine.py).
"""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

RECIPE = Recipe(
    "deepspeed", "DeepSpeed's ZeRO around a 16-bit model",
    Citation("DeepSpeed runtime/bf16_optimizer.py (fp32_groups_gradients); ZeRO, arXiv 1910.02054"),
    weights=2, gradients=6, master=4, states=8, kind="deepspeed",
    optimizer="adamw-fused",  # FusedAdam
    note="16-bit weights and gradients, fp32 master weights and moments; zero counts its estimators' 20 bytes",
)  # fmt: skip
