"""``llmcalc fermi``: its command line, what it asks, how it answers."""
