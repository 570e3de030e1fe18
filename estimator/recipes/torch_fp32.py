"""Everything in fp32."""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

RECIPE = Recipe(
    "torch-fp32", "PyTorch, everything in fp32",
    Citation("torch/optim/adam.py: states in the parameter's dtype"),
    weights=4, gradients=4, master=0, states=8, width=4,
)  # fmt: skip
