"""llmcalc: how much memory, how many FLOPs, how much time and money a language model takes, with derivations.

Every estimate is a plain function that returns a :class:`~estimator.report.Report`; the command line only
parses options, calls it and renders. Names below are imported on first use, so ``import estimator`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from estimator._version import __version__

_EXPORTS = {
    "Report": "estimator.report",
    "Node": "estimator.report",
    "LlmcalcError": "estimator.errors",
    "InputError": "estimator.errors",
    "load_model": "estimator.models",
    "load_gpu": "estimator.presets",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'estimator' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
