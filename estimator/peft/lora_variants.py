"""What LoRA's variants add to the two factors: DoRA, KaSA, VeLoRA, MonteCLoRA; BD-LoRA's block-diagonal factors.

Source: peft 0.21.2, tuners/lora/variants.py, config.py and monteclora.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.ops import ceil_div
from estimator.peft.arguments import BUFFER, Args, PeftTensor
from estimator.peft.modules import CONV1D, Module

VARIANTS = (
    "use_dora",
    "use_bdlora",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "arrow_config",
    "alora_invocation_tokens",
)


def variant(a: Args, m: Module, r: Any) -> Iterator[PeftTensor]:
    """What DoRA, KaSA, VeLoRA or MonteCLoRA adds to the factors of one target."""
    if a["use_dora"]:
        yield PeftTensor(m.name, "lora_magnitude_vector", (m.d_out,), m.times, layers=m.layers)
    if a["kasa_config"] is not None:
        if m.kind == CONV1D:
            raise InputError(f"--method lora: KaSA cannot adapt {m.example!r} ({CONV1D})")
        if r >= min(m.d_in, m.d_out):
            raise InputError(
                f"--rank {int(r)}: KaSA needs a rank below {int(min(m.d_in, m.d_out))}, the smaller side of "
                f"{m.example!r}"
            )
        yield PeftTensor(m.name, "lora_diag", (r,), m.times, layers=m.layers)
    if a["velora_config"] is not None:
        groups = _whole(a, "velora_config", "num_groups", 64)
        yield PeftTensor(m.name, "lora_velora_embed", (ceil_div(m.d_in, groups),), m.times, BUFFER, layers=m.layers)
    if a["monteclora_config"] is not None:
        samples = _whole(a, "monteclora_config", "num_samples", 8)
        yield PeftTensor(m.name, "std_prior", (r,), m.times, layers=m.layers)
        yield PeftTensor(m.name, "expert_weights_prior", (samples,), m.times, layers=m.layers)
        yield PeftTensor(m.name, "gaussian_var_prior", (r, r), m.times, BUFFER, layers=m.layers)
        yield PeftTensor(m.name, "expert_weights", (samples,), m.times, BUFFER, layers=m.layers)


def _part(a: Args, name: str) -> dict[str, Any]:
    value = a[name]
    if not isinstance(value, dict):
        raise a.bad(name, "must be an object, like {}")
    return value


def _whole(a: Args, name: str, key: str, default: int) -> int:
    """A whole number >= 1 inside an object argument."""
    value = _part(a, name).get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**9:
        raise a.bad(name, f"must have a whole {key} >= 1")
    return value


def _listed(a: Args, c: dict[str, Any], key: str) -> list[Any]:
    value = c.get(key) or []
    if not isinstance(value, list):
        raise a.bad("use_bdlora", f"must have a list in {key}")
    return value


def block_diagonal(a: Args, m: Module) -> tuple[str, int] | None:
    """BD-LoRA: which factor of this target is block-diagonal, and in how many blocks."""
    if a["use_bdlora"] is None:
        return None
    c = _part(a, "use_bdlora")
    in_a = any(str(p) in m.example for p in _listed(a, c, "target_modules_bd_a"))
    in_b = any(str(p) in m.example for p in _listed(a, c, "target_modules_bd_b"))
    if in_a and in_b:
        raise InputError(f"--arg use_bdlora: {m.example!r} is in both lists")
    if not in_a and not in_b:
        if c.get("match_strict", True):
            raise InputError(f"--arg use_bdlora: {m.example!r} is in neither list (match_strict)")
        return None
    return ("A" if in_a else "B"), _whole(a, "use_bdlora", "nblocks", 1)
