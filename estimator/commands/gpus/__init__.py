"""``llmcalc gpus``: its command line, what it asks, how it answers."""
