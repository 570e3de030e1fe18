"""Schemes by name, with their parameters: ``gptq-3bit-g128``, ``awq-g64``, ``mlx-4bit-g64``, ``w8a8``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from estimator.errors import InputError
from estimator.records import NamedTuple
from estimator.storage import layouts as lay
from estimator.storage.layouts import Layout
from estimator.storage.schemes import LINEARS, MLX_TOUCHES, SCHEMES, Scheme, sees_or_hears

_BITS, _GROUP = re.compile(r"^(\d{1,2})bits?$"), re.compile(r"^g(-?\d{1,6})$")


class Grouped(NamedTuple):
    """A method that takes parameters: its layout of (bits, group, zero points, name), and what it may be given."""

    layout: Callable[[int, int, bool, str], Layout]
    bits: tuple[int, ...]
    default: tuple[int, int]
    what: str
    mlx: bool = False


METHODS: dict[str, Grouped] = {
    "gptq": Grouped(lambda b, g, z, n: lay.gptq(b, g, n), (2, 3, 4, 8), (4, 128), "GPTQ"),
    "awq": Grouped(lambda b, g, z, n: lay.awq(b, g, n), (4,), (4, 128), "AWQ"),
    "int4": Grouped(lambda b, g, z, n: lay.packed_int(b, g, z, name=n), (4,), (4, 128), "packed int4"),
    "w8a16": Grouped(lambda b, g, z, n: lay.packed_int(b, g, z, name=n), (8,), (8, -1), "packed int8, weights only"),
    "hqq": Grouped(lambda b, g, z, n: lay.hqq(b, g, 1, n), (1, 2, 3, 4, 8), (4, 64), "HQQ"),
    "mlx": Grouped(lambda b, g, z, n: lay.mlx(b, g, n), (2, 3, 4, 5, 6, 8), (4, 64), "MLX", mlx=True),
}
_FIXED: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("w8a8", lay.tiled(0, 1, 2, name="w8a8", products=lay.INT8), "each",
               "int8 with a 16-bit scale a row, products in int8; output layer, embeddings, norms and routers stay"),
        Scheme("fp8-row", lay.tiled(0, 1, 2, name="fp8-row"), "each",
               "fp8 with a 16-bit scale a row; output layer, embeddings, norms and routers stay"),
    )
}  # fmt: skip
NAMES = tuple(dict.fromkeys((*SCHEMES, *METHODS, *_FIXED)))


def named_scheme(text: str) -> Scheme | None:
    """The scheme of a name with parameters, None where no method begins so. InputError for parameters that it lacks."""
    text = text.replace("_", "-")
    if text in SCHEMES:
        return SCHEMES[text]
    if text in _FIXED:
        return _FIXED[text]
    head, *rest = text.split("-")
    if head not in METHODS:
        return None
    method = METHODS[head]
    (bits, group), zeros = method.default, False
    for part in rest:
        b, g = _BITS.match(part), _GROUP.match(part)
        if b is not None:
            bits = int(b[1])
        elif g is not None:
            group = int(g[1])
        elif part in ("channel", "row"):
            group = -1
        elif part == "asym" and head in ("int4", "w8a16"):
            zeros = True
        else:
            raise InputError(f"--quantization {text[:60]}: {part[:20]!r} is none of Nbit, gN, channel: gptq-3bit-g128")
    if bits not in method.bits:
        known = ", ".join(str(b) for b in method.bits)
        raise InputError(f"--quantization {text[:60]}: {method.what} has {known} bits, got {bits}")
    if group == 0 or group < -1:
        raise InputError(f"--quantization {text[:60]}: a group is 1 or more inputs, or -1 for a whole row, got {group}")
    return _made(head, method, bits, group, zeros)


def _made(head: str, method: Grouped, bits: int, group: int, zeros: bool) -> Scheme:
    size = f"groups of {group} inputs" if group > 0 else "one group a row"
    name = f"{head}-{bits}bit-{f'g{group}' if group > 0 else 'channel'}"
    layout = method.layout(bits, group, zeros, name)
    more: dict[str, Any] = {"touches": LINEARS}
    kept = "output layer, embeddings, norms and routers stay"
    if method.mlx:
        more = {"touches": MLX_TOUCHES, "divides": max(1, group), "rules": ((sees_or_hears, None),)}
        kept = "embeddings and the output layer too"
    return Scheme(name, layout, "each", f"{method.what}, {bits} bits in {size}: {kept}", **more)


__all__ = ["METHODS", "NAMES", "named_scheme"]
