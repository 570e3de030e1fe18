"""``llmcalc memory``."""

from estimator.command import command
from estimator.commands.memory.question import Memory

app = command(Memory)
