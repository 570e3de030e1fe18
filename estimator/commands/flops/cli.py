"""``llmcalc flops``."""

from estimator.command import command
from estimator.commands.flops.question import Flops

app = command(Flops)
