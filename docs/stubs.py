"""Writes estimator/api.pyi: the keyword signature of each question, for type checkers and editors.

    python docs/stubs.py

tests/core/test_api_types.py runs it and compares, so an option that is added is in the signature too.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "estimator" / "api.pyi"
KINDS = {"text": "Value", "flag": "bool", "switch": "bool", "int": "int", "float": "float | None", "list": "Arguments"}
HEAD = '''"""The types of :mod:`estimator.api`. Written by docs/stubs.py; do not edit."""

from collections.abc import Mapping, Sequence
from typing import Any

'''
ALIASES = """
# a size, a name or a list with commas, as on the command line; None: not given
Value = str | int | float | None
# further arguments of a method: {"alpha": 16}, or ["alpha=16"]
Arguments = Mapping[str, Any] | Sequence[str]
"""


def signature(name: str) -> str:
    """The function of a question with all its options: those that may stand by position first."""
    from estimator import api
    from estimator.questions.base import options_of
    from estimator.sweep.run import question_of

    question, _ = question_of(name)
    kinds = {f.name: KINDS[words.kind] for f, words in options_of(question)}
    known = {f.name: kinds.get(f.name, "Any") for f in fields(question)}
    known["targets"] = "Value | Sequence[str]"
    function = getattr(api, name)
    given = [p for p in inspect.signature(function).parameters.values() if p.name != "options"]
    optional = given[0].default is not inspect.Parameter.empty
    model = "model: " + str(given[0].annotation) + (" = ..." if optional else "")
    first = [model if p.name == "model" else f"{p.name}: {known[p.name]} = ..." for p in given]
    named = {p.name for p in given} | {"model"}
    rest = [f"{f.name}: {known[f.name]} = ..." for f in fields(question) if f.name not in named]
    lines = ",\n    ".join([*first, "*", *rest])
    return f"def {name}(\n    {lines},\n) -> Report: ...\n"


def stub() -> str:
    """The whole file."""
    from estimator import api
    from estimator.sweep.run import QUESTIONS

    other = {k: v for k, v in api._EXPORTS.items() if k not in QUESTIONS}
    imports = sorted((module, name) for name, module in other.items())
    lines = "\n".join(f"from {module} import {name} as {name}" for module, name in imports)
    asked = [signature(name) for name in api._EXPORTS if name in QUESTIONS]
    return HEAD + lines + "\n" + ALIASES + "\n" + "\n".join(asked)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    STUB.write_text(stub())
