"""What the count of a token's parameters has in it, beside published ones."""

from __future__ import annotations

from estimator.families.base import Architecture
from estimator.formulas.params import active_params, total_params
from estimator.inventory import EMBEDDING, total
from estimator.trace import value_of
from estimator.units import PARAMS, human


def active_words(arch: Architecture) -> str:
    """What :func:`active_params` has that published counts leave out; "" where every token uses every weight."""
    active = value_of(active_params(arch))
    if active == value_of(total_params(arch)):
        return ""
    if arch.tied or not arch.has_head:
        return "with the token table"
    rest = human(active - value_of(total(arch.weights(), EMBEDDING)), PARAMS)
    return f"with the input table, which some published counts leave out: {rest} without"
