"""``llmcalc sweep``: its command line; the rows are made in :mod:`estimator.sweep`."""
