"""A training loop of one's own: weights in one width, autocast or none; the recipe that the others are names for."""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

RECIPE = Recipe(
    "torch", "PyTorch, a loop of one's own",
    Citation("torch/amp/autocast_mode.py, torch/optim: states in the parameter's dtype"),
    weights=2, gradients=2, master=0, states=4, kind="simulated", width=0, drops=True,
)  # fmt: skip
