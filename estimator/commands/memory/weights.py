"""Memory of a model whose weights alone are known: they, and a sentence for what cannot be said."""

from __future__ import annotations

from estimator.active import active_words
from estimator.commands.memory.question import Memory
from estimator.dtypes import find_format
from estimator.errors import InputError
from estimator.families.common_gguf import elsewhere
from estimator.formulas.params import active_params, embedding_params, total_params
from estimator.inventory import EXPERT
from estimator.questions.read import storage_of
from estimator.report import Node, Report
from estimator.storage import model_storage
from estimator.trace import value_of
from estimator.units import BYTES, PARAMS, human


def weights_alone(q: Memory) -> Report:
    """Parameters and bytes of the weights; caches and activations are left out, and that is said."""
    if q.check_fit:
        also = elsewhere(q.model.architecture)
        raise InputError(f"--check-fit: only this model's weights are known, not its caches and activations{also}")
    model, arch, said = q.model, q.model.architecture, list[str]()
    asked = None if q.dtype is None else find_format(q.dtype).name
    storage = model_storage(model, storage_of(q, said), asked)
    weights, said_routing = storage.bytes, arch.routed is not None or all(w.role != EXPERT for w in arch.weights())
    active = Node("params.active", "Used by a token", active_params(arch), PARAMS, note=active_words(arch))
    params = Node.group(
        "Parameters",
        [
            Node("params.total", "All", total_params(arch), PARAMS),
            *([active] if said_routing else []),
            Node("params.embedding", "Embedding tables and output matrix", embedding_params(arch), PARAMS),
        ],
    )
    standing = Node.group("What stands", [Node("weights_bytes", "Weights", weights, BYTES)])
    size = human(int(value_of(weights)), BYTES)
    return Report(
        "memory", f"Memory of {model.name}: weights alone",
        {"model": model.name, "mode": "inference", "dtype": asked, "quantization": q.quantization, "gpu": q.gpu},
        (params, standing), {"fits": None}, (*said, *storage.notes), (), tuple(model.notes),
        verdict=f"{model.name}'s weights take {size}; its caches and activations are not known, so whether it fits is "
        f"not said{elsewhere(arch)}.",
    )  # fmt: skip
