"""Serving engines: one file or folder each, found by name.

An engine answers three questions about serving a model, each a function of its module that takes the frozen question
and returns a Report: ``memory(q)``, ``kvcache(q)`` and ``infer(q)``; ``fit(q)`` is the fit alone. ``transformers``
and ``fused`` (an ideal engine's kernels) are answered by the commands themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError, unknown
from estimator.questions.base import given, options_of, spelt
from estimator.questions.parts import OF_ENGINES
from estimator.report import Report

if TYPE_CHECKING:
    from estimator.engines.server import Server
    from estimator.fit import Fit

OWN = ("transformers", "fused")
OF_TIME = ("rate", "prefix_hit")  # what neither a cache nor a pool of blocks depends on
# name -> module in estimator.engines
ENGINES: dict[str, str] = {
    "llama.cpp": "llamacpp", "vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "tensorrt_llm", "tgi": "tgi",
}  # fmt: skip


def engine_of(q: Any) -> str:
    """The engine of a question: as given, else llama.cpp for a GGUF file or a mix, transformers.

    A file or a mix of a family whose graph in llama.cpp is not known stays with transformers.
    """
    if q.engine is not None:
        if q.engine not in ENGINES and q.engine not in OWN:
            raise unknown("--engine", str(q.engine), (*OWN, *ENGINES))
        return str(q.engine)
    if "llama.cpp" in ENGINES:
        from estimator.storage.gguf_dynamic import nearest
        from estimator.storage.gguf_mix import MIXES

        gguf = q.model.header is not None and str(q.model.header.path).endswith(".gguf")
        named = str(q.quantization or "")
        mix = named in MIXES or nearest(named, MIXES) or (q.model.mix and q.quantization is None)
        if q.quantization == "all" or ((gguf or mix) and _has_graph(q.model)):
            return "llama.cpp"
    return OWN[0]


def _has_graph(model: Any) -> bool:
    """Whether llama.cpp's graph of the model's family is known."""
    from estimator.families.common_gguf import gguf_of

    return model.kind != "symbolic" and gguf_of(model.architecture) is not None


def server_of(name: str) -> Server:
    """The server of an engine's name. InputError where it is none."""
    module: Any = import_module(f"estimator.engines.{ENGINES[name]}") if name in ENGINES else None
    found: Server | None = getattr(module, "SERVER", None)
    if found is None:
        raise unknown("--engine", name, [x for x in ENGINES if x != "llama.cpp"])
    return found


def fit_in(q: Any) -> Fit | None:
    """Whether a question fits its card in its serving engine: the fit alone, without a report."""
    module: Any = import_module(f"estimator.engines.{ENGINES[engine_of(q)]}")
    found: Fit | None = module.fit(q)
    return found


def _whose(option: str, question: Any) -> str:
    """The engines that an option's help begins with, and what to add for the first of them."""
    said = next(words.help for field, words in options_of(question) if field.name == option).partition(":")[0]
    first = "vllm" if said == "Engines" else said.partition(",")[0].lower()
    return f"{'serving engines' if said == 'Engines' else said}: add --engine {first}"


def answered(question: str, q: Any) -> Report | None:
    """The engine's report on ``memory``, ``kvcache`` or ``infer``; None where the command itself answers.

    Raises InputError where options of an engine are given to another.
    """
    name = engine_of(q)
    if name in OWN:
        for f in given(q):
            if f.name in OF_ENGINES:
                raise InputError(f"{f.flag} is of {_whose(f.name, type(q))}")
        return None
    if question != "infer":
        for f in given(q):
            if f.name in OF_TIME:
                raise InputError(f"{spelt(q, f)} is of the time of serving: llmcalc infer, or leave it out")
    module: Any = import_module(f"estimator.engines.{ENGINES[name]}")
    report: Report = getattr(module, question)(q)
    return report
