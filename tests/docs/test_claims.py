"""The README and the changelog claim no more than the program has, and leave no command out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from estimator.cli import COMMANDS
from estimator.commands.docs.topics import page, topics
from estimator.families import FAMILIES
from estimator.peft import METHODS
from estimator.presets import ids
from estimator.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"six": 6, "eight": 8, "twelve": 12}
COUNTS = {
    r"(\w+) model families": len(FAMILIES),
    r"(\w+) (?:adapter )?methods": len(METHODS),
    r"(\w+) models and": len(ids("models")),
    r"and (\w+) accelerators": len(ids("gpus")),
    r"(\w+) scaling laws": len(ids("laws")),
    r"(\w+) scenarios": len(ids("fermi")),
    r"(\w+) recipes": len(RECIPES),
}


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_counts(page):
    text = " ".join((ROOT / page).read_text().split())
    found = {p: re.findall(p, text) for p in COUNTS}
    assert any(found.values())
    for pattern, words in found.items():
        assert all((WORDS.get(w) or int(w)) <= COUNTS[pattern] for w in words), pattern


def test_every_command_has_a_page_and_a_line_in_the_changelog():
    changes = (ROOT / "CHANGELOG.md").read_text()
    for name in COMMANDS:
        assert (ROOT / "docs" / "commands" / f"{name}.md").is_file()
        assert f"`{name}`" in changes


def test_docs_finds_every_page_and_a_wheel_carries_it():
    carried = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    docs = {k: v for k, v in carried["force-include"].items() if k.startswith("docs/")}
    for path in topics().values():
        inside = path.relative_to(ROOT).as_posix()
        place = next(k for k in docs if inside == k or inside.startswith(f"{k}/"))
        assert docs[place] == place.replace("docs/", "estimator/_docs/")
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    site = {"index.md", "try.md", "reference.md"}
    assert pages - site == {p.relative_to(ROOT / "docs").as_posix() for p in topics().values()}
    assert page("memory") != page("homework/peft")
    assert page("docs/extending.md").startswith("# Extending")


def test_messages_point_to_pages_that_exist():
    said = [m for p in (ROOT / "estimator").rglob("*.py") for m in re.findall(r"llmcalc docs ([a-z-]+)", p.read_text())]
    assert said
    assert set(said) <= set(topics())


def test_every_extra_is_imported_somewhere():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    code = "\n".join(p.read_text() for d in ("estimator", "benchmarks") for p in (ROOT / d).rglob("*.py"))
    for extra in set(extras) - {"dev", "browser", "docs"}:
        for need in extras[extra]:
            package = re.split(r"[<>=]", need)[0]
            assert re.search(rf"^\s*(?:import|from) {package}\b", code, re.MULTILINE), (extra, package)
