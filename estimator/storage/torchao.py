"""torchao's configs as transformers writes them (TorchAoConfig); tensors by ``__tensor_flatten__`` of torchao 0.18."""

from __future__ import annotations

from typing import Any

from estimator.formulas.storage import FP32
from estimator.inventory import EMBEDDING, HEAD
from estimator.storage import layouts as lay
from estimator.storage.fields import Fields
from estimator.storage.layouts import Layout
from estimator.storage.matching import Match, transformers_match, wildcards
from estimator.storage.schemes import LINEARS, Scheme

ZERO = 1  # bytes of an int8 zero point
# names of the first serialisation, a plain string with quant_type_kwargs
_OLD = {
    "int8_weight_only": "Int8WeightOnlyConfig", "int4_weight_only": "Int4WeightOnlyConfig",
    "int8_dynamic_activation_int8_weight": "Int8DynamicActivationInt8WeightConfig",
    "float8_weight_only": "Float8WeightOnlyConfig",
    "float8_dynamic_activation_float8_weight": "Float8DynamicActivationFloat8WeightConfig",
    "int8_dynamic_activation_int4_weight": "Int8DynamicActivationIntxWeightConfig",
}  # fmt: skip
LINEAR = LINEARS - {"conv1d"}


def torchao(c: Fields) -> Scheme | None:
    """One config for all linear layers, or one a name (FqnToConfig)."""
    value = c.raw.get("quant_type")
    if isinstance(value, str):
        kwargs = c.group("quant_type_kwargs")
        value = {"_type": _OLD.get(value, value), "_data": dict(kwargs.raw) if kwargs else {}}
    elif isinstance(value, dict) and "default" in value:
        value = value["default"]
    rules: list[tuple[Match, Layout | None]] = []
    by_name = _by_name(value)
    if by_name is not None:
        for name, own in by_name.items():
            if name == "_default":
                continue
            layout = _layout(own, c.where) if own is not None else None
            if own is not None and layout is None:
                return None
            rules.append((_names(str(name)), layout))
        value = by_name.get("_default")
    default = _layout(value, c.where) if value is not None else None
    if default is None:
        first = next((x for _, x in rules if x is not None), None)
        if value is not None or first is None:
            return None
        default = first
        rules.append((lambda name: True, None))
    names = c.names("modules_to_not_convert")
    tables = c.flag("include_input_output_embeddings")
    head = tables or (names is not None and "lm_head" not in names)
    touches = LINEAR | ({HEAD} if head else set()) | ({EMBEDDING} if tables else set())
    return Scheme(
        default.name, default, "kept", f"{default.name} as torchao stores it (config)", touches,
        skip=transformers_match(n for n in names or () if not (tables and n in ("lm_head", "model.embed_tokens"))),
        rules=tuple(rules),
    )  # fmt: skip


def _by_name(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict) and value.get("_type") in ("FqnToConfig", "ModuleFqnToConfig"):
        data = value.get("_data") or {}
        found = data.get("fqn_to_config") or data.get("module_fqn_to_config")
        return found if isinstance(found, dict) else {}
    return None


def _names(name: str) -> Match:
    from estimator.storage.matching import exact_or_regex

    stem = name.removesuffix(".weight")
    return exact_or_regex([stem]) if stem.startswith("re:") else wildcards([stem])


def _layout(value: Any, where: str) -> Layout | None:
    """How a matrix lies under one config."""
    if not isinstance(value, dict):
        return None
    kind = str(value.get("_type", ""))
    data = value.get("_data")
    c = Fields(data if isinstance(data, dict) else {}, f"{where}: quant_type")
    old = value.get("_version", 1) == 1
    grain = c.raw.get("granularity", c.raw.get("weight_granularity"))
    if isinstance(grain, list):
        grain = grain[-1] if grain else None
    tile = _tile(grain, c)
    if kind in ("Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig",
                "Int8StaticActivationInt8WeightConfig"):  # fmt: skip
        products = lay.WEIGHT_ONLY if kind.startswith("Int8Weight") else lay.INT8
        extra = FP32 if "Static" in kind else 0
        return lay.tiled(*tile, FP32 + ZERO, extra, "int8", products)
    if kind in ("Float8WeightOnlyConfig", "Float8DynamicActivationFloat8WeightConfig",
                "Float8StaticActivationFloat8WeightConfig"):  # fmt: skip
        products = lay.WEIGHT_ONLY if kind.startswith("Float8Weight") else lay.FP8
        # a dynamic config's default is a scale a tensor, a weight-only's a scale a row
        whole = grain is None and products == lay.FP8
        return lay.tiled(*((0, 0) if whole else tile), FP32, FP32 if "Static" in kind else 0, "fp8", products)
    if kind == "Int4WeightOnlyConfig":
        return lay.torchao_int4(c.whole("group_size", 128, least=-1))
    if kind in ("IntxWeightOnlyConfig", "Int8DynamicActivationIntxWeightConfig") and not old:
        default = (32, 1) if grain is None and kind.startswith("Int8") else tile
        return lay.tiled(*default, 2 + ZERO, 0, "int8", lay.WEIGHT_ONLY)
    return None


def _tile(grain: Any, c: Fields) -> tuple[int, int]:
    """(inputs, outputs) that share a scale: a row, a group, or the whole matrix."""
    kind = grain.get("_type") if isinstance(grain, dict) else None
    data = grain.get("_data") if isinstance(grain, dict) else None
    own = Fields(data if isinstance(data, dict) else {}, f"{c.where}: granularity")
    if kind == "PerTensor":
        return 0, 0
    if kind == "PerGroup":
        return own.whole("group_size", 128), 1
    group = c.whole("group_size", -1, least=-1)
    return max(0, group), 1
