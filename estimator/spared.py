"""Spares a process of ours what SymPy does before its first sum: the symmetry groups of the Platonic solids.

SymPy 1.14 asks of every sum whether it is one of tensors, for which it imports ``sympy.tensor.tensor`` and with it
``sympy.combinatorics``, whose import takes 25 ms. A derivation has no tensors.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_TENSORS = "sympy.tensor.tensor"


class _NoTensor:
    """What no expression is an instance of."""


class _Spared(ModuleType):
    """In the module's place until somebody wants more of it than to know that a term is no tensor."""

    TensExpr = TensAdd = _NoTensor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or sys.modules.get(_TENSORS) is not self:
            raise AttributeError(name)
        del sys.modules[_TENSORS]
        self.__dict__.update(vars(import_module(_TENSORS)))
        return self.__dict__[name]


def spare() -> None:
    """For a process that only derives; a program that imports this one keeps all of SymPy."""
    sys.modules.setdefault(_TENSORS, _Spared(_TENSORS))
