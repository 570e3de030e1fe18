"""Every fenced block of the README and the docs that starts with ``$ llmcalc`` is run; its output must be exactly that.

``pytest tests/docs --update-golden`` rewrites the outputs. A block may hold several commands.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONG = ("commands/plan.md", "engines/llamacpp.md")  # seconds each
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(^```[a-z]*\n)(\$ llmcalc .*?)(^```$)", re.MULTILINE | re.DOTALL)


@pytest.mark.whole
@pytest.mark.parametrize("page", [
    pytest.param(p, id=str(p.relative_to(ROOT)), marks=[pytest.mark.thorough] if p.as_posix().endswith(LONG) else [])
    for p in PAGES
])  # fmt: skip
def test_examples(page, llmcalc, update_golden, tmp_path):
    text = page.read_text()
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        made = BLOCK.sub(lambda m: m[1] + rerun(m[2], llmcalc) + m[3], text)
    finally:
        os.chdir(here)
    if update_golden:
        page.write_text(made)
    else:
        assert made == text


def rerun(block: str, llmcalc) -> str:
    out = []
    for line in block.split("\n"):
        if line.startswith("$ llmcalc "):
            ran = llmcalc(line.removeprefix("$ llmcalc "))
            out.append(f"{line}\n{ran.out}{ran.err}".rstrip("\n"))
    return "\n".join(out) + "\n"
