"""DeepSpeed's bf16 optimizer: the ZeRO paper's states with gradients accumulated in fp32."""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

RECIPE = Recipe(
    "deepspeed", "DeepSpeed bf16 with fp32 gradient accumulation",
    Citation("DeepSpeed runtime/bf16_optimizer.py (fp32_groups_gradients); ZeRO, arXiv 1910.02054"),
    weights=2, gradients=6, master=4, states=8, kind="deepspeed",
    note="bf16 gradients and their fp32 accumulation buffer; activations of the simulated bf16 stack",
)  # fmt: skip
