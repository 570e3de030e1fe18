"""The safetensors file that peft writes: eight bytes, a JSON header of every tensor's name, shape and place, padded to
a multiple of eight, and the numbers.

Source: safetensors 0.8, src/tensor.rs (prepare, serialize); peft 0.21.2, utils/save_and_load.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from estimator.ops import digits, round_up
from estimator.peft.arguments import BASE, INDEX, TUNER, PeftTensor
from estimator.peft.base import Adapter
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE

PREFIX = 8  # bytes of the header's length, and what the header is padded to
NAMES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16", "i64": "I64"}
ORDER = ("I64", "F32", "I32", "BF16", "F16")  # safetensors' Dtype from the top: tensors lie so, then by name
MODEL = "base_model.model."  # before a module's name; before what all share "base_model."

HEAD = len('{"__metadata__":{"format":"pt"}}')
ENTRY = len(',"":{"dtype":"","shape":[],"data_offsets":[,]}')  # of one tensor, less its name, type and numbers

Row = tuple[str, str, list[Any]]


def header_bytes(adapter: Adapter, tuner: str, base: str) -> Any:
    """Bytes of the file before its numbers; ``tuner``, ``base``: names of the formats of the adapter and the model."""
    kinds = {TUNER: NAMES.get(tuner, "F32"), BASE: NAMES.get(base, "BF16"), INDEX: "I64"}
    rows = sorted(_rows(adapter, kinds), key=lambda row: (ORDER.index(row[1]), row[0]))
    size: Any = HEAD
    at: Any = 0
    for name, kind, shape in rows:
        end = at + prod(shape) * _width(kind)
        size = size + ENTRY + len(name) + len(kind) + max(len(shape) - 1, 0)
        size = size + sum((digits(n) for n in (*shape, at, end)), 0)
        at = end
    return PREFIX + round_up(size, PREFIX)


def _width(kind: str) -> int:
    return {"I64": 64, "F32": 32, "I32": 32}.get(kind, 16) // BITS_PER_BYTE


def _rows(adapter: Adapter, kinds: dict[str, str]) -> Iterator[Row]:
    """(name, type, shape) of every tensor in the file."""
    layers = {m.name: m.layers for m in adapter.targets}
    for t in adapter.tensors:
        if t.saved:
            for name, shape in _placed(t, layers.get(t.module)):
                yield from ((n, kinds[t.format], s) for n, s in _pieces(name, shape, t.pieces))
            for name, dims, kind in t.beside:
                for i in layers.get(t.module) or range(int(value_of(t.times))):
                    yield MODEL + name.replace("{i}", str(i)), kind or kinds[t.format], _numbers(dims)
    for t in adapter.unfrozen if adapter.tensors else ():
        if t.saved and t.elements:
            yield from ((name, kinds[BASE], shape) for name, shape in _placed(t, None))


def _placed(t: PeftTensor, layers: tuple[int, ...] | None) -> Iterator[tuple[str, list[Any]]]:
    """The tensor of every layer that holds one. A tensor that layers share is saved once for each."""
    shape, times = _numbers(t.shape), int(value_of(t.times))
    if t.stored or not t.module:
        for i in range(times):
            yield (t.stored or f"base_model.{t.name}").replace("{i}", str(i)), shape
        return
    each = prod(shape)
    copies = int(value_of(t.saved_extra)) // each if each and not t.beside else 0
    for i in (layers or ())[: times + copies] or range(times + max(copies, 0)):
        yield f"{MODEL}{t.module.replace('{i}', str(i))}.{t.name}", shape


def _numbers(shape: tuple[Any, ...]) -> list[Any]:
    return [value_of(n) for n in shape]


def _pieces(name: str, shape: list[Any], pieces: Any) -> Iterator[tuple[str, list[Any]]]:
    """A list of parameters lies in the file one by one, the first axis divided."""
    if not pieces:
        yield name, shape
        return
    n = int(value_of(pieces))
    for i in range(n):
        rows = shape[0] // n + (1 if i < shape[0] % n else 0)
        yield f"{name}.{i}", [rows, *shape[1:]] if rows != 1 or len(shape) < 3 else shape[1:]
