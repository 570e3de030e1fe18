"""The Python API: one function a question, each returning a :class:`~estimator.report.Report`.

    from estimator import api

    report = api.memory("llama-3-8b", mode="training", seq_len=2048)
    report.results()["peak.allocated_bytes"]

Names are imported on first use. For derivations: ``load_model(name, traced=True)``, then
``api.to_text(report, "table", derive=True)``; call ``api.forget()`` between two such reports.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "load_model": "estimator.models",
    "load_gpu": "estimator.presets",
    "memory": "estimator.estimates.memory",
    "peft": "estimator.estimates.peft",
    "zero": "estimator.estimates.zero",
    "kvcache": "estimator.estimates.kvcache",
    "flops": "estimator.estimates.flops",
    "train": "estimator.estimates.train",
    "infer": "estimator.estimates.infer",
    "chinchilla": "estimator.estimates.chinchilla",
    "fit": "estimator.estimates.chinchilla_fit",
    "fermi": "estimator.estimates.fermi",
    "beam": "estimator.estimates.decode",
    "speculative": "estimator.estimates.decode",
    "tree": "estimator.estimates.decode",
    "prune": "estimator.estimates.compress",
    "quantize": "estimator.estimates.compress",
    "linear": "estimator.estimates.compress",
    "validate": "estimator.estimates.validate",
    "explain": "estimator.estimates.explain",
    "to_text": "estimator.render",
    "forget": "estimator.trace",
    "Model": "estimator.models",
    "Report": "estimator.report",
    "Node": "estimator.report",
    "Table": "estimator.report",
    "Text": "estimator.report",
    "LlmcalcError": "estimator.errors",
    "InputError": "estimator.errors",
    "DoesNotFit": "estimator.errors",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'estimator.api' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(_EXPORTS)
