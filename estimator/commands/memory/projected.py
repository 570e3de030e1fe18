"""What GaLore and APOLLO project: ``optim_target_modules``, as transformers' Trainer reads it.

Source: transformers 5.17, trainer_optimizer.py (_setup_low_rank_optimizer) and trainer_utils.py
(check_target_module_exists): modules that are torch.nn.Linear, by a part of their name or a pattern, or all of them.
Parameters are listed without those that are tied, so that an output matrix tied to the table is never projected.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from estimator.errors import InputError
from estimator.inventory import HEAD, LINEAR, Weight
from estimator.patterns import compiled, takes

if TYPE_CHECKING:
    from estimator.commands.memory.question import Memory
    from estimator.families.base import Architecture
    from estimator.optimizers import Optimizer

ALL = "all-linear"
LAYERS = "{}: the layers' linear matrices are projected; --optim-target-modules all-linear takes the output matrix too"
NOTHING = "{}: no layer of {} has a torch.nn.Linear: nothing is projected, and the Trainer refuses it"
INDEX = re.compile(r"\{\w*\}")


def projected(q: Memory, arch: Architecture, optimizer: Optimizer, said: list[str]) -> frozenset[str] | None:
    """Names of the weights that the optimizer projects, None where it projects none. InputError where none is meant."""
    asked = q.optim_target_modules
    if not optimizer.projects:
        if asked is not None:
            raise InputError(f"--optim-target-modules is for galore and apollo: --optimizer {optimizer.name} "
                             "projects nothing")  # fmt: skip
        return None
    if asked is None:
        found = frozenset(w.name for w in arch.weights() if is_linear(w) and w.role == LINEAR)
        said.append(LAYERS.format(optimizer.name) if found else NOTHING.format(optimizer.name, q.model.name))
        return found
    linear = [w for w in arch.weights() if is_linear(w)]
    if str(asked).replace("_", "-") == ALL:
        return frozenset(w.name for w in linear)
    wanted = [x for x in (part.strip() for part in str(asked).split(",")) if x]
    found = frozenset(w.name for w in linear if any(matches(x, INDEX.sub("0", w.module)) for x in wanted))
    if not found:
        raise InputError(f"--optim-target-modules {str(asked)[:60]}: no linear layer of {q.model.name} is called so; "
                         "name parts of modules, as attn,mlp, or all-linear")  # fmt: skip
    return found


def is_linear(w: Weight) -> bool:
    """Whether it is the matrix of a torch.nn.Linear."""
    return w.role in (LINEAR, HEAD) and not w.is_bias and len(w.shape) == 2


def matches(wanted: str, name: str) -> bool:
    """Whether a module of this name is meant; its layer is the first."""
    if wanted in name:
        return True
    try:
        compiled(wanted)
    except re.error:
        raise InputError(f"--optim-target-modules {wanted[:60]!r} is no name and no pattern; try attn,mlp") from None
    return takes(wanted, name)
