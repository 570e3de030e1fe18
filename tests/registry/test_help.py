"""The help of all commands: one placeholder for one option, and none of Typer's own type names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from estimator.cli import COMMANDS

OPTION = re.compile(r"^  (?:-\w, )?(--[a-z-]+) ([A-Z][^ ]*)", re.MULTILINE)
OWN = {"--set", "--params"}  # differ by meaning


@pytest.mark.parametrize("command", COMMANDS)
def test_no_type_names(llmcalc, command):
    assert not re.search(r"<(str|int|float|bool)", llmcalc(f"{command} --help").out)


def test_an_option_has_one_placeholder():
    seen: dict[str, set[str]] = {}
    page = (Path(__file__).parents[2] / "docs" / "help.md").read_text()
    for name, placeholder in OPTION.findall(page):
        seen.setdefault(name, set()).add(placeholder)
    assert {n: p for n, p in seen.items() if len(p) > 1 and n not in OWN} == {}
