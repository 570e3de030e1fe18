"""fp32 parameters under bf16 autocast: Trainer(bf16=True), or torch.autocast around the forward pass."""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

RECIPE = Recipe(
    "torch-mixed", "PyTorch autocast: fp32 parameters, bf16 products",
    Citation("torch/amp/autocast_mode.py, aten/src/ATen/autocast_mode.cpp; transformers 5, Trainer(bf16=True)"),
    weights=4, gradients=4, master=0, states=8, width=4, amp=True,
    note="autocast adds a bf16 copy of every weight from its first use to the end of the backward pass",
)  # fmt: skip
