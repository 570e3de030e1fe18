"""Fermi estimates: a small language for chains of quantities with units, sources and uncertainty.

parser      text -> syntax tree; nothing else is ever done with a formula's text
numbers     exact arithmetic whose cost is bounded
units       dimensions, conversion, the table of units
algebra     what a syntax tree is run on: exact numbers, dimensions, samples, SymPy, text
ranges      values and ranges as people write them; distributions
scenario    a TOML file -> quantities
engine      order, unit check, values, samples, percentiles, sensitivity
compare     "that is 250 times the books of the Library of Congress"
template    the commented file that ``llmcalc fermi new`` writes
"""
