"""TRL's SFTTrainer: the Trainer with a fused, tiled output matrix and loss.

trl 1.16. Quantised bases get adapters in bf16. Measured: 19 steps of one H100 and one H200,
tests/accuracy/stacks.json.gz and stacks_more.json.gz.
"""

from dataclasses import replace

from estimator.formula import Citation
from estimator.recipes.trainer import RECIPE as TRAINER

RECIPE = replace(
    TRAINER, name="sft", title="TRL's SFTTrainer", loss="tiled", quantised_adapters=2, checkpoints=True,
    cite=Citation("trl 1.16, trainer/sft_trainer.py and kernels/chunked_logprob.py"),
    note="no logits: log-probabilities from tiles of 4,096 tokens x 32,768 columns",
)  # fmt: skip
