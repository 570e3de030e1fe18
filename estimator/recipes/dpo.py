"""TRL's DPOTrainer: pairs of answers in one batch, and a reference that runs after the policy.

trl 1.16. Without an adapter the reference is a copy of the model; with one it is the model with the adapter switched
off. Measured: 10 steps of one H100 and one H200, tests/accuracy/stacks.json.gz and stacks_more.json.gz.
"""

from dataclasses import replace
from fractions import Fraction

from estimator.formula import Citation
from estimator.recipes.sft import RECIPE as SFT

RECIPE = replace(
    SFT, name="dpo", title="TRL's DPOTrainer", sequences=2, scored=Fraction(1, 2), reference="after", drops=False,
    silent=True,
    cite=Citation("trl 1.16, trainer/dpo_trainer.py and kernels/chunked_logprob.py"),
    note="a batch of n is n pairs: 2n sequences, of whose tokens the answer's are scored",
)  # fmt: skip
