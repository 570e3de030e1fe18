"""Tests that need programs which pip does not install: LaTeX, node with KaTeX, shells. ``make programs`` runs them."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from estimator.cli import COMMANDS, run

ROOT = Path(__file__).resolve().parents[2]


def program(name: str, package: str) -> str:
    """The path of a program. Without it the test fails: nothing is known without the program."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"no {name}: apt-get install {package} (make programs does)")
    return found


def documented() -> list[list[str]]:
    """Every command line of the documentation that prints a report, without its format and output, once each."""
    found: dict[str, list[str]] = {}
    for page in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]:
        for line in re.findall(r"^\$ llmcalc (.*)$", page.read_text(encoding="utf-8"), re.M):
            words = [] if any(c in line for c in "|>") else shlex.split(line)
            if words and words[0] in COMMANDS and "--help" not in words and "--plot" not in words:
                for flag in ("--format", "--output"):
                    if flag in words:
                        del words[words.index(flag) : words.index(flag) + 2]
                found[shlex.join(words)] = words
    return list(found.values())


def printed(words: list[str], format: str) -> str:
    """What a command prints in a format; "" where the example shows an error."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = run([*words, "--format", format])
    return out.getvalue() if code in (0, 3) else ""
