"""``llmcalc explain``: its command line, what it asks, how it answers."""
