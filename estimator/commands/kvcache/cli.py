"""``llmcalc kvcache``."""

from estimator.command import command
from estimator.commands.kvcache.question import KVCache

app = command(KVCache)
