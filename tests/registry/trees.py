"""Every file of the program, parsed once for all the tests that read them."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

import estimator

ROOT = Path(estimator.__file__).parent


@lru_cache(maxsize=1)
def trees() -> dict[str, ast.Module]:
    """The files by their path below ``estimator/``, sorted."""
    return {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text()) for p in sorted(ROOT.rglob("*.py"))}
