"""Unlimited-OCR: DeepSeek-OCR's weights. While it writes, its attention keeps the prompt and a window of what it wrote,
which no cache here does: its weights alone are described.

Source: sgl-project/sglang, python/sglang/srt/models/unlimited_ocr.py; held to what the published file holds.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families import deepseek_ocr
from estimator.families.base import Architecture

WEIGHTS_ALONE = True  # for benchmarks/coverage.py: no family that says what is computed


def build(c: Config) -> Architecture:
    """The weights of the whole model."""
    return deepseek_ocr.build(c)._replace(counted_only=True)
