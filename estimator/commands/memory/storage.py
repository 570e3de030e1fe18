"""How a run's weights are stored (a scheme, a format, a file's header), and what a plan has to say about itself."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.inventory import HEAD
from estimator.peft.base import CONV1D, LINEAR, Adapter
from estimator.questions.base import COMMON, given, spelt
from estimator.questions.parts import OF_ENGINES, Stacked
from estimator.storage.base import Storage
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.commands.memory.question import Memory
    from estimator.families.base import Architecture

WIDTHS = {"fp32": 4, "bf16": 2, "fp16": 2}
EIGHT_BITS = ("int8",)  # bitsandbytes' other scheme, which peft prepares for training too
UNPACKED = ("nf4", "nf4-dq", "fp4", "fp4-dq")  # schemes whose weights are unpacked in the forward and the backward pass


def as_held(storage: Storage, arch: Architecture, said: list[str]) -> Storage:
    """Plain weights as the stack holds them: transformers 5 ties every output matrix of T5, whatever the file has."""
    parts = tuple(p for p in storage.parts if p.weight.role != HEAD)
    if storage.scheme != "none" or not arch.always_tied or len(parts) == len(storage.parts):
        return storage
    said.append("transformers 5 ties the output matrix to the embedding table: it is held and trained once")
    return replace(storage, parts=parts, total=None)


def left_alone(storage: Storage, said: list[str]) -> frozenset[str]:
    """Names of the matrices that a scheme of bitsandbytes leaves alone in every layer."""
    packed = {p.weight.name for p in storage.parts if p.layout is not None}
    plain = {p.weight.name for p in storage.parts if p.layout is None}
    if packed & plain:
        said.append("a matrix that stays as it is in some layers is simulated as if it were packed in all")
    return frozenset(plain - packed)


def unsimulated(
    stored: Any, computed: Any, base: str, simulated: bool, quantization: str, said: list[str]
) -> Any:
    """The weights' bytes where they lie in a format whose kernels are not ``simulated``, else None."""
    plain = quantization in ("none", "") and (not base or base in WIDTHS) and value_of(stored) == value_of(computed)
    if plain or simulated:
        return None
    said.append("the products run on the stored weights: what their kernels unpack for a moment is not modelled")
    return stored


FORWARD_ONLY = ("new_tokens", "kv_dtype", "logits")  # what training has no use for
STACK = tuple(f.name for f in fields(Stacked) if f.name not in COMMON)
LENGTHS = ("ctx_size", "max_model_len")  # what serving calls the tokens of a sequence
TRAINING_ONLY = ("recipe", "optimizer", "checkpointing", "loss", *STACK)
HOW_TO_TRAIN = tuple(name for name in TRAINING_ONLY if name != "transformers")  # whose version serves too


def unused(q: Memory) -> list[str]:
    """A sentence for each option that was given and that this mode has no use for."""
    mode, names = ("training", FORWARD_ONLY) if q.training else ("inference", TRAINING_ONLY)
    return [f"{spelt(q, f)} is not used by --mode {mode}" for f in given(q) if f.name in names]


def refuse_serving(q: Memory) -> None:
    """InputError where a training step is asked with an option of a serving engine."""
    for f in given(q):
        if f.name == "ram":  # of the host, where a step offloads
            continue
        if f.name in OF_ENGINES or (f.name == "engine" and q.engine != "transformers"):
            instead = f"--seq-len {str(getattr(q, f.name))[:40]} is its length" if f.name in LENGTHS else "leave it out"
            raise InputError(f"{spelt(q, f)} is of serving, not of a training step: {instead}")


def implied_training(q: Memory) -> str:
    """Why a question that names no mode is about a training step: who says how to train asks for one; "": it is not."""
    asked = {f.name: f for f in given(q)}
    training = next((asked[name] for name in ("method", "allocator", *HOW_TO_TRAIN) if name in asked), None)
    if training is None or any(name in asked for name in (*FORWARD_ONLY, "engine")):
        return ""
    return f"--mode not given: training, as {spelt(q, training)} says"


def not_run(adapter: Adapter, checkpointing: str) -> list[str]:
    """What is said where peft's own step fails."""
    if adapter.method.recomputes or checkpointing == "none":
        return []
    return [
        f"--checkpointing {checkpointing}: such a step fails in peft 0.21.2, whose {adapter.method.name} has let go of "
        "what a layer needs to run again; this is what it would need"
    ]


def approximate(adapter: Adapter) -> list[str]:
    """What is simulated in the place of an adapter whose own operations are not, or of its targets that are no linear
    layers."""
    name, product = adapter.method.name, "one product with its trained numbers beside each"
    if adapter.method.simulated:
        return []
    if adapter.method.forward is None:
        return [f"activations of {name} are approximate: {product} target"]
    if all(m.kind in (LINEAR, CONV1D) for m in adapter.targets):
        return []
    return [f"activations of {name} are approximate where a target is no linear layer: {product}"]

