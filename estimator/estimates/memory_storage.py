"""How a run's weights are stored (a scheme, a format, a file's header), and what a plan has to say about itself."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from estimator.models import Model
from estimator.peft.base import Adapter
from estimator.questions.parts import Stacked
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.questions.memory import Memory

WIDTHS = {"fp32": 4, "bf16": 2, "fp16": 2}
UNPACKED = ("nf4", "nf4-dq", "fp4")  # schemes whose weights are unpacked in the forward and the backward pass
FILE_FORMATS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


def file_format(model: Model) -> str:
    """The format of most of the weights in the file that was read, bf16 where there is none or it is packed."""
    kinds = model.header.by_dtype() if model.header is not None else {}
    return FILE_FORMATS.get(next(iter(kinds), "").upper(), "bf16")


def file_bytes(model: Model, computed: Any, said: list[str]) -> Any:
    """The bytes of a file of packed weights, from its header; ``computed`` for plain ones, which load as tensors."""
    found = model.stored_bytes
    if found is None or model.header is None:
        return computed
    kinds = [*model.header.by_dtype()]
    said.append(f"weights as they lie in {model.header.path}: {', '.join(kinds)}")
    return computed if all(k.upper() in FILE_FORMATS for k in kinds) else found


def unsimulated(stored: Any, computed: Any, base: str, quantization: str, said: list[str]) -> Any:
    """The weights' bytes where they lie in a format that the simulated kernels do not unpack, else None."""
    plain = quantization in ("none", "") and (not base or base in WIDTHS) and value_of(stored) == value_of(computed)
    if plain or quantization in UNPACKED:
        return None
    said.append("the products run on the stored weights: what their kernels unpack for a moment is not modelled")
    return stored


FORWARD_ONLY = ("new_tokens", "kv_dtype", "logits")  # what training has no use for
STACK = tuple(f.name for f in fields(Stacked) if f.name != "model")
TRAINING_ONLY = ("recipe", "optimizer", "checkpointing", "loss", *STACK)


def unused(q: Memory) -> list[str]:
    """A sentence for each option that was given and that this mode has no use for."""
    defaults = {f.name: f.default for f in fields(q)}
    mode, names = ("training", FORWARD_ONLY) if q.training else ("inference", TRAINING_ONLY)
    given = {k: getattr(q, k) for k in names if getattr(q, k) != defaults[k]}
    return [f"--{k.replace('_', '-')} {value} is not used by --mode {mode}" for k, value in given.items()]


def approximate(adapter: Adapter) -> str:
    """What is simulated in the place of an adapter whose own operations are not."""
    name = adapter.method.name
    if adapter.virtual_tokens:
        return f"activations of {name} are approximate: its virtual tokens lengthen the sequence"
    return f"activations of {name} are approximate: one product with its trained numbers beside each target"
