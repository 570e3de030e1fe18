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
    "memory": "estimator.commands.memory.report",
    "peft": "estimator.commands.peft.report",
    "zero": "estimator.commands.zero.report",
    "kvcache": "estimator.commands.kvcache.report",
    "flops": "estimator.commands.flops.report",
    "train": "estimator.commands.train.report",
    "infer": "estimator.commands.infer.report",
    "plan": "estimator.commands.plan.report",
    "chinchilla": "estimator.commands.chinchilla.report",
    "fit": "estimator.commands.chinchilla.fit",
    "fermi": "estimator.commands.fermi.report",
    "beam": "estimator.commands.decode.report",
    "speculative": "estimator.commands.decode.report",
    "tree": "estimator.commands.decode.report",
    "prune": "estimator.commands.compress.report",
    "quantize": "estimator.commands.compress.report",
    "linear": "estimator.commands.compress.report",
    "validate": "estimator.commands.validate.report",
    "explain": "estimator.commands.explain.report",
    "sweep": "estimator.sweep.run",
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
