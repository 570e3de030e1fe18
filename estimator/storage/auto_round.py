"""AutoRound's checkpoints: integers packed as GPTQ or AWQ packs them, MXFP4, MXFP8, NVFP4 and fp8.

Read in auto-round 0.16.1: export/export_to_autoround (qlinear_fp.py, export_to_fp8.py), data_type/utils.py.
"""

from __future__ import annotations

from estimator.formulas.storage import FP32, awq_bytes, gptq_bytes
from estimator.inventory import HEAD
from estimator.storage import layouts as lay
from estimator.storage.fields import Fields, bits_of, group_of, grouping, named
from estimator.storage.layouts import Layout
from estimator.storage.matching import Match, transformers_match
from estimator.storage.schemes import LINEARS, Scheme

SCALE = 2  # bytes of fp8's scales, which are in the model's type


def auto_round(c: Fields) -> Scheme | None:
    """AutoRoundConfig: ``data_type`` and ``packing_format`` say how codes lie, ``extra_config`` what differs."""
    layout = _layout(c, c)
    if layout is None:
        return None
    rules: list[tuple[Match, Layout | None]] = []
    touches = LINEARS
    extra = c.group("extra_config") or Fields({}, c.where)
    for name in extra.raw:
        own = extra.group(str(name))
        if own is None:
            continue
        made = None if own.whole("bits", 4, most=32) >= 16 else _layout(c, own)
        if "lm_head" in str(name) and made is not None:
            touches = LINEARS | {HEAD}
        rules.append((transformers_match([str(name)]), made))
    name = what = layout.name
    if layout.formula in (gptq_bytes, awq_bytes):
        name = named("auto-round", bits_of(c), group_of(c))
        what = f"{bits_of(c)} bits, {grouping(group_of(c))}, packed as {_packing(c)[:40]}"
    return Scheme(name, layout, "each", f"AutoRound, {what} (config)", touches, rules=tuple(rules))


def _packing(c: Fields) -> str:
    return c.text("packing_format", "auto_round:auto_gptq")


def _layout(whole: Fields, own: Fields) -> Layout | None:
    """How a matrix lies; ``own``: what one module says beside the ``whole``."""
    c = Fields({**{k: v for k, v in whole.raw.items() if k != "extra_config"}, **own.raw}, own.where)
    kind = c.text("data_type", "int").lower().replace("nvfp", "nv_fp").replace("mxfp", "mx_fp")
    bits, acts = bits_of(c), c.whole("act_bits", 16, most=32)
    if kind.startswith("mx_fp"):
        return lay.mxfp4() if bits == 4 else lay.mxfp8() if bits == 8 else None
    if kind.startswith("nv_fp"):
        return lay.nvfp4(FP32 if acts <= 8 else 0, lay.NVFP4 if acts <= 8 else lay.WEIGHT_ONLY) if bits == 4 else None
    if kind.startswith("fp"):
        return _fp8(c) if bits == 8 else None
    if not kind.startswith("int") or "llm_compressor" in _packing(c):  # its int8 is not packed
        return None
    group = group_of(c)
    if "awq" in _packing(c):
        return lay.awq(bits, group, named("awq", bits, group))
    return lay.gptq(bits, group, named("gptq", bits, group), index=0)


def _fp8(c: Fields) -> Layout:
    """FP8QLinear and FP8BlockQLinear: a scale a matrix (group 0), a row (-1) or a tile, one of the inputs if static."""
    tile = c.tile("group_size") if isinstance(c.raw.get("group_size"), list) else None
    group = 0 if tile else group_of(c, -1)
    rows, columns = tile or (0 if group == 0 else 1, max(0, group))
    static = SCALE if c.whole("act_bits", 16, most=32) <= 8 and not c.flag("act_dynamic", True) else 0
    return lay.tiled(columns, rows, SCALE, static, "fp8-block" if tile else "fp8")


__all__ = ["auto_round"]
