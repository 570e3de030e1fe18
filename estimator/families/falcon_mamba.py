"""Falcon-Mamba: Mamba with weightless RMSNorms on the time step, B and C.

Source: transformers 5, models/falcon_mamba/modeling_falcon_mamba.py and configuration_falcon_mamba.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families import common_ssm
from estimator.families.base import Architecture
from estimator.families.common_gguf import Gguf

GGUF = {"falcon_mamba": Gguf("mamba")}


def build(c: Config) -> Architecture:
    """Falcon-Mamba from its config."""
    return common_ssm.mamba(c, norms=True)
