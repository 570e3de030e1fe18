"""``llmcalc infer``."""

from estimator.command import command
from estimator.commands.infer.question import Infer

app = command(Infer)
