"""``llmcalc man``: its command line, the manual page."""
