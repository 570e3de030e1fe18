"""What a checkpoint says of its own storage: the dtype and the quantisation in ``config.json`` and beside it.

``quantization_config`` (transformers and the engines), ``quantization`` (MLX) and ``hf_quant_config.json`` (ModelOpt)
become a :class:`Scheme`. What cannot be mapped is said loudly: its weights are then counted in the plain type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.dtypes import ALIASES, FORMATS
from estimator.errors import InputError
from estimator.records import dataclass
from estimator.storage.fields import Fields
from estimator.storage.schemes import Scheme

PLAIN = ("fp32", "bf16", "fp16", "fp64", "fp8")


@dataclass(frozen=True, slots=True)
class Declared:
    """What the files say.

    scheme  how the weights are quantised, None where they are not, or where it cannot be mapped
    dtype   the format of the rest ("bf16"), None where no file says
    unknown the method that could not be mapped, else ""
    notes   each a sentence
    """

    scheme: Scheme | None = None
    dtype: str | None = None
    unknown: str = ""
    notes: tuple[str, ...] = ()


NOTHING = Declared()


def declared(raw: Mapping[str, Any], where: str, beside: Mapping[str, Any] | None = None) -> Declared:
    """What ``config.json`` (``raw``) and ``hf_quant_config.json`` (``beside``) say of storage.

    Raises InputError for fields of the wrong type.
    """
    dtype, notes = dtype_of(raw, where)
    found = _quantisation(raw, where)
    if found is None and beside is not None:
        inner = Fields(beside, "hf_quant_config.json").group("quantization")
        found = ("modelopt", inner) if inner is not None else None
    if found is None:
        return Declared(None, dtype, "", tuple(notes)) if dtype or notes else NOTHING
    method, fields = found
    if "expert_dtype" in raw:  # DeepSeek-V4 says it beside its quantization_config
        fields = Fields({"expert_dtype": raw["expert_dtype"], **fields.raw}, fields.where)
    from estimator.storage.method_mappings import READERS

    reader = READERS.get(method)
    scheme = None if reader is None else reader(fields)
    if scheme is None:
        said = "is not known" if reader is None else "holds a layout that is not known"
        notes.append(
            f"WARNING: {fields.where}: quant_method {method[:40]!r} {said}; without --quantization the weights are "
            f"counted in {dtype or 'bf16'}, more than they take"
        )
        return Declared(None, dtype, method, tuple(notes))
    return Declared(scheme, dtype, "", (*notes, *scheme.notes))


def dtype_of(raw: Mapping[str, Any], where: str) -> tuple[str | None, list[str]]:
    """The format in ``dtype`` or ``torch_dtype``, of the model or of its text part."""
    for part in (raw, raw.get("text_config"), raw.get("llm_config")):
        if not isinstance(part, Mapping):
            continue
        for name in ("dtype", "torch_dtype"):
            value = part.get(name)
            if value is None or value == "auto":
                continue
            if not isinstance(value, str):
                raise InputError(f"{where}: {name} must be a string, got {str(value)[:40]!r}")
            key = value.strip().lower().removeprefix("torch.")
            key = ALIASES.get(key.split("_e")[0] if key.startswith("float8") else key, key)
            if key in FORMATS and key in PLAIN:
                return key, []
            return None, [f"WARNING: {where}: {name} {value[:40]!r} is not known; bf16 was taken"]
    return None, []


def _quantisation(raw: Mapping[str, Any], where: str) -> tuple[str, Fields] | None:
    """(method, its fields) from the first place that has one."""
    top = Fields(raw, where)
    mlx = raw.get("quantization")
    copied = raw.get("quantization_config", mlx)  # mlx-lm writes its group under both names
    if isinstance(mlx, Mapping) and mlx and isinstance(copied, Mapping) and "quant_method" not in copied:
        return "mlx", Fields(mlx, f"{where}: quantization")
    for part in (top, top.group("text_config") if isinstance(raw.get("text_config"), Mapping) else None):
        found = part and part.group("quantization_config")
        if found and found.raw:
            method = found.text("quant_method").strip().lower()
            return method or _guess(found), found
    return None


def _guess(found: Fields) -> str:
    """The method of a config that names none: older bitsandbytes and MLX configs."""
    if any(name in found.raw for name in ("load_in_4bit", "load_in_8bit")):
        return "bitsandbytes"
    if "config_groups" in found.raw:
        return "compressed-tensors"
    if "bits" in found.raw and "group_size" in found.raw and "mode" not in found.raw and "quant_type" not in found.raw:
        modules = {n for n, v in found.raw.items() if isinstance(v, bool | Mapping) and "." in str(n)}
        modules |= {"lm_head"} if modules else set()
        return "mlx" if set(found.raw) - modules <= {"bits", "group_size"} else "gptq"
    return "mlx" if "mode" in found.raw else ""
