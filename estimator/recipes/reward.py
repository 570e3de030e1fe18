"""TRL's RewardTrainer: pairs of answers under a model with one score in its head's place.

trl 1.16. No logits: AutoModelForSequenceClassification with one label, whose last token's score is read. Over an
adapter peft trains a copy of the score's matrix too (task_type SEQ_CLS). No dropout (disable_dropout).
"""

from dataclasses import replace

from estimator.formula import Citation
from estimator.recipes.trainer import RECIPE as TRAINER

RECIPE = replace(
    TRAINER, name="reward", title="TRL's RewardTrainer", sequences=2, scores=True, quantised_adapters=2, drops=False,
    silent=True, checkpoints=True, note="a batch of n is n pairs: 2n sequences, each with one score",
    cite=Citation("trl 1.16, trainer/reward_trainer.py; transformers 5.17, modeling_layers.py"),
)  # fmt: skip
