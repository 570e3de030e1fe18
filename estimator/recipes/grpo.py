"""TRL's GRPOTrainer: the training step on completions that were generated before.

trl 1.16. A batch of n is n completions, whichever prompts they answer. What generates them is asked about by itself:
``llmcalc memory --mode inference --engine``. The reference runs before the step, with no gradients, and only where the
KL term's coefficient is not 0 (its default).
"""

from dataclasses import replace
from fractions import Fraction

from estimator.formula import Citation
from estimator.recipes.sft import RECIPE as SFT

RECIPE = replace(
    SFT, name="grpo", title="TRL's GRPOTrainer", scored=Fraction(1, 2), reference="before", generates=True,
    cite=Citation("trl 1.16, trainer/grpo_trainer.py and kernels/chunked_logprob.py"),
    note="a batch of n is n completions; generation is not part of the step",
)  # fmt: skip
