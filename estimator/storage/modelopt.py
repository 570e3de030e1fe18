"""NVIDIA ModelOpt's and AMD Quark's checkpoints."""

from __future__ import annotations

from estimator.formulas.storage import FP32
from estimator.inventory import HEAD, LINEAR
from estimator.storage import layouts as lay
from estimator.storage.fields import Fields
from estimator.storage.layouts import Layout
from estimator.storage.matching import Match, wildcards
from estimator.storage.schemes import Scheme

TOUCHES = frozenset((LINEAR, HEAD))


def _algorithm(name: str, group: int) -> Layout | None:
    """How a matrix lies by ``quant_algo`` (weight, weight_scale, weight_scale_2, input_scale)."""
    made: dict[str, Layout] = {
        "FP8": lay.tiled(extra=FP32),
        "FP8_PER_CHANNEL_PER_TOKEN": lay.tiled(0, 1),
        "FP8_PB_WO": lay.tiled(128, 128, name="fp8-block", products=lay.WEIGHT_ONLY),
        "FP8_BLOCK_SCALES": lay.tiled(128, 128, name="fp8-block"),
        "MXFP8": lay.mxfp8(),
        "NVFP4": lay.nvfp4(FP32),
        "W4A16_NVFP4": lay.nvfp4(0, lay.WEIGHT_ONLY),
        "MXFP4": lay.mxfp4(),
        "W4A8_MXFP4_FP8": lay.mxfp4(FP32),
    }
    return made.get(name.upper())


def modelopt(c: Fields) -> Scheme | None:
    """``quant_algo`` with ``exclude_modules`` or ``ignore``; MIXED_PRECISION names an algorithm a layer."""
    name = c.text("quant_algo") or _from_groups(c)
    group = c.whole("group_size", 16, least=-1)
    skip = wildcards(c.names("exclude_modules", "ignore") or ())
    cached = (c.text("kv_cache_quant_algo") or ("FP8" if c.group("kv_cache_scheme") else "")).upper()
    attention = 2 * FP32 if cached == "FP8" else 0
    if not name and cached:
        return Scheme.nothing(f"the cache alone is quantised, to {cached} (ModelOpt, config)", attention)
    if name.upper() == "MIXED_PRECISION":
        return _mixed(c, skip, attention)
    layout = _algorithm(name, group)
    if layout is None:
        return None
    return Scheme(
        layout.name, layout, "each", f"{name} as ModelOpt stores it (config)", TOUCHES, skip=skip, attention=attention
    )


def _mixed(c: Fields, skip: Match, attention: int) -> Scheme | None:
    found = c.group("quantized_layers")
    rules: list[tuple[Match, Layout | None]] = [(skip, None)]
    for name in found.raw if found else {}:
        own = found.group(str(name)) if found else None
        layout = None if own is None else _algorithm(own.text("quant_algo"), own.whole("group_size", 16, least=-1))
        if layout is None:
            return None
        rules.append((wildcards([str(name)]), layout))
    if len(rules) == 1:
        return None
    first = rules[1][1]
    assert first is not None
    rules.append((lambda name: True, None))
    return Scheme(
        "modelopt-mixed", first, "each", "an algorithm a layer as ModelOpt stores it (config)", TOUCHES,
        rules=tuple(rules), attention=attention,
    )  # fmt: skip


def _from_groups(c: Fields) -> str:
    """The algorithm of the first of ``config_groups``, where ``quant_algo`` is left out."""
    groups = c.group("config_groups")
    for name in groups.raw if groups else {}:
        group = groups.group(str(name)) if groups else None
        w = group.group("weights") if group else None
        if w is not None and w.text("type", "float") == "float":
            return {8: "FP8", 4: "NVFP4"}.get(w.whole("num_bits", 8, most=16), "")
    return ""


def quark(c: Fields) -> Scheme | None:
    """Quark's ``global_quant_config`` and ``layer_quant_config``, with ``exclude``."""
    whole = c.group("global_quant_config")
    layout = None if whole is None else _quark_layout(whole)
    if layout is None:
        return None
    rules: list[tuple[Match, Layout | None]] = [(wildcards(c.names("exclude") or ()), None)]
    layers = c.group("layer_quant_config")
    for name in layers.raw if layers else {}:
        own = layers.group(str(name)) if layers else None
        if own is not None:
            rules.append((wildcards([str(name)]), _quark_layout(own)))
    note = f"{layout.name} as Quark stores it (config)"
    return Scheme(layout.name, layout, "each", note, TOUCHES, rules=tuple(rules))


def _quark_layout(c: Fields) -> Layout | None:
    if isinstance(c.raw.get("weight"), list):  # two stages, one on the other
        return None
    w, inputs = c.group("weight"), c.group("input_tensors")
    if w is None:
        return None
    kind, scheme = w.text("dtype").lower(), w.text("qscheme", "per_tensor")
    static = FP32 if inputs is not None and not inputs.flag("is_dynamic") else 0
    group = w.whole("group_size", 32, least=-1)
    if kind.startswith("fp8"):
        products = lay.FP8 if inputs is not None else lay.WEIGHT_ONLY
        return lay.tiled(0, 0 if scheme == "per_tensor" else 1, FP32, static, "fp8", products)
    if kind in ("fp4", "mx") and group == 32:
        return lay.mxfp4()
    if kind == "int8":
        products = lay.INT8 if inputs is not None else lay.WEIGHT_ONLY
        return lay.tiled(0, 0 if scheme == "per_tensor" else 1, FP32, static, "int8", products)
    return None
