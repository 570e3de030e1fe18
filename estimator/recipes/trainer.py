"""transformers.Trainer(bf16=True): weights as the checkpoint holds them, under bf16 autocast.

transformers 5.17, accelerate 1.15. Measured: 44 steps of one H100, tests/accuracy/stacks.json.gz.
"""

from estimator.formula import Citation
from estimator.recipes.base import Recipe

# names of OptimizerNames (transformers/training_args.py) that mean another optimizer elsewhere
OPTIMIZERS = {"adafactor": "adafactor-hf", "lion": "lion-bnb"}

RECIPE = Recipe(
    "trainer", "transformers.Trainer",
    Citation("transformers 5.17, trainer.py and trainer_optimizer.py; accelerate 1.15, accelerator.py"),
    weights=2, gradients=2, master=0, states=4, width=0, amp=True,
    note="weights as the checkpoint holds them, bf16 autocast; 8-bit states of embeddings stay in 32 bits",
    optimizer="adamw-fused", optimizers=OPTIMIZERS, wide_embeddings=True, masked=True, moves=True, drops=True,
    widens=True,
)  # fmt: skip
