"""Where a model is found: presets, files and folders, the hub and its local cache, other formats of a config."""

from __future__ import annotations

from estimator.sources.found import Found, read_config
from estimator.sources.where import find

__all__ = ["Found", "find", "read_config"]
