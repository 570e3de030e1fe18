"""PEFT methods: one file each, found by the name that ``--method`` takes.

``METHODS`` maps a name to the module (and the attribute in it) that holds its :class:`~estimator.peft.base.Method`.
Most names are the peft library's in lower case.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from estimator.errors import unknown
from estimator.names import read

if TYPE_CHECKING:
    from estimator.peft.base import Method

METHODS: dict[str, str] = {
    "lora": "lora",
    "dora": "dora",
    "qlora": "qlora",
    "adalora": "adalora",
    "vera": "vera",
    "pvera": "pvera",
    "loha": "loha",
    "lokr": "lokr",
    "ia3": "ia3",
    "oft": "oft",
    "boft": "boft",
    "hra": "hra",
    "miss": "miss",
    "shira": "shira",
    "c3a": "c3a",
    "road": "road",
    "fourierft": "fourierft",
    "waveft": "waveft",
    "delora": "delora",
    "gralora": "gralora",
    "randlora": "randlora",
    "vblora": "vblora",
    "ln_tuning": "ln_tuning",
    "beft": "beft",
    "deft": "deft",
    "hira": "hira",
    "glora": "glora",
    "lily": "lily",
    "peanut": "peanut",
    "poly": "poly",
    "psoft": "psoft",
    "osf": "osf",
    "supertuning": "supertuning",
    "tinylora": "tinylora",
    "unilora": "unilora",
    "frod": "frod",
    "adamss": "adamss",
    "prompt_tuning": "prompt_tuning",
    "prefix_tuning": "prefix_tuning",
    "p_tuning": "p_tuning",
    "multitask_prompt_tuning": "multitask_prompt_tuning",
    "cpt": "cpt",
    "cartridge": "cartridge",
    "adaption_prompt": "adaption_prompt",
    "trainable_tokens": "trainable_tokens",
    "xlora": "xlora",
    "shadow": "shadow",
    "adapter": "adapter",
    "freeze": "freeze",
    "bitfit": "bitfit",
    "full": "full",
    "soft-prompt": "soft_prompt",
}

def find(name: str) -> Method:
    """The method called ``name``; InputError with the nearest names otherwise."""
    key = read("method", name)
    if key not in METHODS:
        from estimator.recipes import RECIPES

        hint = f"It is a recipe of memory and train: --recipe {name.lower()}" if name.lower() in RECIPES else ""
        raise unknown("--method", name, () if hint else METHODS, hint)
    module: Any = import_module(f"estimator.peft.{METHODS[key]}")
    method: Method = module.METHOD
    return method
