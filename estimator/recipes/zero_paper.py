"""The accounting of the ZeRO paper: 2 + 2 + 12 bytes a parameter."""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

RECIPE = Recipe(
    "zero-paper", "The ZeRO paper's model states",
    Citation("Rajbhandari et al. 2019, arXiv 1910.02054, sections 3.1 and 3.2 (K = 12)"),
    weights=2, gradients=2, master=4, states=8, kind="zero-paper",
    note="activations as in the paper's footnote: 12 * hidden * batch * seq * layers 16-bit numbers",
)  # fmt: skip
