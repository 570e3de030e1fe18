"""``llmcalc train``."""

from estimator.command import command
from estimator.commands.train.question import Train

app = command(Train)
