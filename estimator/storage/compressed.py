"""compressed-tensors: groups of targets with their weights' and inputs' arguments, a format, a list that stays.

Read in compressed-tensors 0.20.0: quantization/lifecycle/initialize.py (which scales there are, in the model's dtype)
and compressors/ (how the codes lie).
"""

from __future__ import annotations

from typing import Any

from estimator.formulas.storage import FP32
from estimator.inventory import EMBEDDING, HEAD, LINEAR
from estimator.storage import layouts as lay
from estimator.storage.fields import Fields
from estimator.storage.layouts import Layout
from estimator.storage.matching import Match, exact_or_regex
from estimator.storage.schemes import Scheme

SCALE = 2  # bytes: scales are in the model's 16-bit type
WHOLE_CLASSES = ("Linear", "LinearBase", "Embedding")


def compressed_tensors(c: Fields) -> Scheme | None:
    """The scheme of ``config_groups``; None where a group's codes are of a kind that is not known."""
    groups = c.group("config_groups")
    ignored = exact_or_regex(c.names("ignore") or ())
    rules: list[tuple[Match, Layout | None]] = [(ignored, None)]
    tables, layouts = False, []
    for name in groups.raw if groups else {}:
        group = groups.group(str(name)) if groups else None
        weights = group.group("weights") if group else None
        if group is None or weights is None:
            continue
        layout = _layout(group, weights, group.text("format") or c.text("format"))
        if layout is None:
            return None
        targets = group.names("targets") or ["Linear"]
        tables = tables or "Embedding" in targets
        layouts.append(layout)
        rules.append((_targets(targets), layout))
    kv = c.group("kv_cache_scheme")
    attention = 0 if kv is None or kv.raw.get("dynamic") is True else 2 * SCALE
    if not layouts:  # a cache alone
        said = "the cache alone is quantised (compressed-tensors, config)"
        return None if kv is None else Scheme.nothing(said, attention)
    rules.append((lambda name: True, None))
    sparse = c.group("sparsity_config")
    notes = [] if sparse is None or sparse.text("format", "dense") == "dense" else [
        f"WARNING: {c.where}: sparsity_config {sparse.text('format')[:30]!r} is not counted: its zeros are stored here"
    ]  # fmt: skip
    names = "/".join(dict.fromkeys(x.name for x in layouts))
    return Scheme(
        names, layouts[0], "each", f"{names} as compressed-tensors stores it (config)",
        frozenset((LINEAR, HEAD, EMBEDDING) if tables else (LINEAR, HEAD)), rules=tuple(rules),
        attention=attention, notes=tuple(notes),
    )  # fmt: skip


def _targets(targets: list[str]) -> Match:
    """Whether a module is meant: by its class, its name or a pattern."""
    by_name = exact_or_regex(t for t in targets if t not in WHOLE_CLASSES)
    linear = "Linear" in targets or "LinearBase" in targets
    table = "Embedding" in targets

    def match(name: str) -> bool:
        embeds = "embed" in name.rpartition(".")[2] or name.endswith(".wte")
        return by_name(name) or (table if embeds else linear)

    return match


def _layout(group: Fields, w: Fields, form: str) -> Layout | None:
    """How a matrix of this group lies."""
    bits, kind = w.whole("num_bits", 8, most=16), w.text("type", "int")
    inputs = group.group("input_activations")
    static = inputs is not None and inputs.raw.get("dynamic") in (False, None)
    tile = _tile(w)
    if kind == "float" and bits == 4:
        if w.whole("group_size", 16, least=-1) == 32 or form.startswith("mxfp4"):
            return lay.mxfp4()
        scaled = inputs is not None and inputs.raw.get("dynamic") is not True
        return lay.nvfp4(FP32 if scaled else 0, lay.NVFP4 if inputs is not None else lay.WEIGHT_ONLY)
    if kind == "float" and bits == 8:
        mx = form.startswith("mxfp8") or "uint8" in str(w.raw.get("scale_dtype"))
        products = lay.FP8 if inputs is not None else lay.WEIGHT_ONLY
        return lay.tiled(*tile, 1 if mx else SCALE, SCALE if static else 0, "mxfp8" if mx else "fp8", products)
    if kind != "int" or bits > 8:
        return None
    symmetric = w.flag("symmetric", True)
    if form.startswith("marlin"):  # 2:4 sparse: half the codes, and their places
        return None
    if form.startswith("pack") or (not form and inputs is None):
        if tile[1] != 1:
            return None
        order = w.raw.get("actorder") in ("group", True)
        return lay.packed_int(bits, tile[0], not symmetric, order, SCALE if static else 0, f"int{bits}")
    return lay.tiled(
        *tile, SCALE + (0 if symmetric else 1), SCALE if static else 0, "int8",
        lay.INT8 if inputs is not None else lay.WEIGHT_ONLY,
    )  # fmt: skip


def _tile(w: Fields) -> tuple[int, int]:
    """(inputs, outputs) that share a scale; 0 is all of them."""
    strategy = w.text("strategy") or ("group" if w.raw.get("group_size") else "tensor")
    if strategy == "channel":
        return 0, 1
    if strategy in ("group", "tensor_group"):
        size = w.whole("group_size", 128, least=-1)
        return max(0, size), 1
    sides: Any = w.raw.get("block_structure")
    if strategy == "block" and isinstance(sides, list) and len(sides) == 2:
        side = Fields({"rows": sides[0], "columns": sides[1]}, f"{w.where}: block_structure")
        return side.whole("columns", 128), side.whole("rows", 128)
    return 0, 0
