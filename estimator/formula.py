"""Formulas: plain functions with a unit, a citation and their assumptions.

A formula is one pure function over ``+ - * // **`` and :mod:`estimator.ops`. Called with ints it returns the exact
int, with traced numbers the derivation too, with SymPy symbols an expression, with numpy arrays a sweep.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from estimator.records import NamedTuple
from estimator.trace import Traced
from estimator.units import Unit


class Citation(NamedTuple):
    """Where something is read: a paper's equation, a library's file, a data sheet."""

    text: str
    url: str = ""

    def __str__(self) -> str:
        return f"{self.text} <{self.url}>" if self.url else self.text


class Formula(NamedTuple):
    """A named formula; calling it calls ``fn``. ``name`` is the function's, ``params`` its parameter names."""

    fn: Callable[..., Any]
    unit: Unit
    cite: Citation
    assumes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.fn.__name__

    @property
    def params(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.fn).parameters)

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return " ".join((inspect.getdoc(self.fn) or "").split("\n\n")[0].split())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self.fn(*args, **kwargs)
        return out.by(self, args) if isinstance(out, Traced) and not kwargs else out


FORMULAS: dict[str, Formula] = {}


def formula(unit: Unit, cite: str | Citation, assumes: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Formula]:
    """Register a function as a formula of ``unit``, read in ``cite``."""

    def register(fn: Callable[..., Any]) -> Formula:
        made = Formula(fn, unit, cite if isinstance(cite, Citation) else Citation(cite), assumes)
        if made.name in FORMULAS:
            raise ValueError(f"formula {made.name} is defined twice")
        FORMULAS[made.name] = made
        return made

    return register
