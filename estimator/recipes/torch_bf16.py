"""Everything in bf16: parameters, gradients and the optimizer's states."""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

RECIPE = Recipe(
    "torch-bf16", "PyTorch, everything in bf16",
    Citation("torch/optim/adam.py: states in the parameter's dtype"),
    weights=2, gradients=2, master=0, states=4,
)  # fmt: skip
