"""Every page opens with the command that answers it: the first thing below its title is a block that asks llmcalc.

Where the output is shown (``$ llmcalc``), ``test_examples`` runs it; where it is not (a file of the reader's own, pages
of output), the options are read here. On homework pages the question, in italics or as a heading, comes first.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
ELSEWHERE = {"try.md": "its form is the command: the line that it writes stands in the page and is answered there"}
OPENING = re.compile(r"```(?:text|sh|)\n(\$ )?(llmcalc [^\n]+)\n")
QUESTION = re.compile(r"(?:## [^\n]+\n\n)?(?:\*[^*]+\*\n\n)?")


def opening(name: str) -> re.Match[str] | None:
    text = re.sub(r"<!--.*?-->\s*", "", (DOCS / name).read_text(), flags=re.DOTALL)
    title, _, body = text.lstrip().partition("\n\n")
    assert title.startswith("# "), name
    asked = QUESTION.match(body) if name.startswith("homework/") else None
    return OPENING.match(body, asked.end() if asked else 0)


@pytest.mark.parametrize("name", [p for p in PAGES if p not in ELSEWHERE])
def test_a_page_opens_with_its_command(name, llmcalc):
    found = opening(name)
    assert found, f"docs/{name} must open with the command that answers it"
    line = found[2].partition("   ")[0].partition(" | ")[0]
    said = llmcalc(f"{' '.join(shlex.split(line)[1:2])} --help").out
    assert not [w for w in re.findall(r"--[a-z-]+", line) if w not in said and found[1] is None], line


def test_no_exception_is_idle():
    assert set(ELSEWHERE) <= set(PAGES)
    assert all(ELSEWHERE.values())
