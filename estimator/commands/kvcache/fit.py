"""What fits on an accelerator beside the weights: the longest context, the largest batch, solved exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.aim import longest
from estimator.card import Card, find_card
from estimator.errors import InputError
from estimator.models import Model
from estimator.records import dataclass
from estimator.report import Node
from estimator.stack.kernels import HOPPER, GpuKernels
from estimator.storage import model_storage
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, TOKENS, parse_size


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of an accelerator: its memory less the context and the weights; ``notes`` says how they were found."""

    card: Card
    weights: Any
    notes: tuple[str, ...]
    scheme: str = "none"

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def free(self) -> int:
        return int((self.card.bytes or 0) - self.card.context.best - int(value_of(self.weights)))


def room(model: Model, gpu: str | None, dtype: str, quantization: str | None, memory: Any = None) -> Room:
    """What ``gpu`` has left beside the weights of ``model`` in a storage scheme."""
    storage = model_storage(model, quantization, dtype)
    card = find_card(gpu, memory)
    return Room(card, storage.bytes, (*card.notes, *storage.notes), storage.scheme)


def workspace_of(model: Model, kind: str, card: GpuKernels = HOPPER) -> tuple[Callable[[int, int], int], list[str]]:
    """Bytes of a pass beside weights and cache by batch and tokens: simulated, none, or a fixed size."""
    if kind == "none":
        return (lambda b, t: 0), ["the workspace of a pass is not counted (--workspace none)"]
    if kind != "simulated":
        fixed = parse_size(kind, "--workspace", "bytes")
        return (lambda b, t: fixed), []
    from estimator.serving.setup import workspace

    found = workspace(model, model.architecture, 1, 1, 1)[1]
    if found:
        return (lambda b, t: 0), found
    said = [
        "workspace: the whole prompt in one pass of transformers; an engine that chunks its prompts needs less "
        "(--workspace BYTES)"
    ]
    return (lambda b, t: workspace(model, model.architecture, b, t, 1, card)[0]), said


def rows(
    place: Room, cache: Callable[[int, int], int], workspace: Callable[[int, int], int], b: int, s: int,
    positions: int | None = None, ripple: tuple[int, int] = (1, 0),
) -> list[Node]:  # fmt: skip
    """Free bytes, the longest context at batch b and the largest batch at s tokens; ``ripple``: of the cache's."""

    def needs(n: int, t: int) -> int:
        held = cache(n, t)  # the workspace is looked at only where the cache alone fits
        return held + workspace(n, t) if held <= place.free else held

    most = longest(lambda t: needs(b, t), place.free, ripple)
    beyond = positions is not None and (most is None or most > positions)
    said = f"; the model has {positions:,} positions" if beyond else ""
    said = f", with every shorter one{said}" if most and ripple[0] > 1 else said
    return [
        Node("weights_bytes", "Weights", place.weights, BYTES),
        Node("workspace_bytes", "Workspace of a pass", workspace(b, s), BYTES),
        Node(
            "free_bytes",
            "Free for cache and workspace",
            max(0, place.free),
            BYTES,
            note=f"{place.name}, weights and context taken off",
        ),
        Node("max_tokens", "Longest context", most, TOKENS, note=f"at batch {b:,}{said}"),
        Node("max_batch", "Largest batch", longest(lambda n: needs(n, s), place.free), COUNT, note=f"at {s:,} tokens"),
    ]


def check_workspace(kind: str) -> None:
    """InputError unless --workspace is simulated, none or a size."""
    if kind not in ("simulated", "none"):
        try:
            parse_size(kind, "--workspace", "bytes")
        except InputError as error:
            raise InputError(f"{error}, or: simulated, none") from None
