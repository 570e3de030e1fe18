"""torchtune's recipes: bf16 throughout, its own modeling code, logits in eight parts.

torchtune 0.6.1, recipes/{full,lora}_finetune_single_device.py and what its configs set.
"""

from estimator.formula import Citation
from estimator.recipes.base import Recipe
from estimator.stack.codes import TORCHTUNE

RECIPE = Recipe(
    "torchtune", "torchtune's recipes",
    Citation("torchtune 0.6.1, recipes/full_finetune_single_device.py, modules/, loss/ce_chunked_output_loss.py"),
    weights=2, gradients=2, master=0, states=4, optimizer="adamw-fused", loss="parts", code=TORCHTUNE, narrow=True,
    checkpoints=True, note="norms and rotations in fp32, the logits of eight parts of the tokens at once",
)  # fmt: skip
