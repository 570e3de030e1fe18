"""litgpt's finetune_full and finetune_lora: bf16-true, its own modeling code, a loop that names the logits.

litgpt 0.5.13, finetune/{full,lora}.py.
"""

from estimator.formula import Citation
from estimator.recipes.base import Recipe
from estimator.stack.codes import LITGPT

RECIPE = Recipe(
    "litgpt", "litgpt's finetune scripts",
    Citation("litgpt 0.5.13, finetune/full.py and lora.py, model.py, utils.py (chunked_cross_entropy)"),
    weights=2, gradients=2, master=0, states=4, loss="held", code=LITGPT, holds=True, narrow=True,
    note="no tied output matrix, one matrix for queries, keys and values; losses of 128 tokens in 16 bits",
)  # fmt: skip
