"""``llmcalc memory``: its command line, what it asks, how it answers."""
