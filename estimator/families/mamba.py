"""Mamba: layers of one selective state-space mixer, no attention and no MLP (arXiv:2312.00752).

Source: transformers 5, models/mamba/modeling_mamba.py and configuration_mamba.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families import common_ssm
from estimator.families.base import Architecture
from estimator.families.common_gguf import Gguf

GGUF = {"mamba": Gguf("mamba")}


def build(c: Config) -> Architecture:
    """Mamba from its config."""
    return common_ssm.mamba(c)
