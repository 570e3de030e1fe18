"""Sweeps: one run with numbers that are recorded, evaluated for a million configurations at once.

A single command runs the simulated step on ints. Here it runs once on numbers of :mod:`estimator.sweep.number`, which
keep what was computed of the swept sizes (a polynomial over sizes, floors and blocks of the allocator) and every
comparison whose answer depends on them. The record is then evaluated for all rows for which those comparisons come out
the same (:mod:`estimator.sweep.evaluate`); the next row that is left is recorded in its turn. What cannot be recorded
is asked row by row, so every row is what the single command answers.
"""
