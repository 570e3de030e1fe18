"""``llmcalc peft``."""

from estimator.command import command
from estimator.commands.peft.question import Peft

app = command(Peft)
