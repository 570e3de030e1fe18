"""``llmcalc completion``: its command line, the scripts of the shells, the words that may stand next."""
