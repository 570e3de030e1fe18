"""Shared fixtures: the command line run in this process, and the switch that rewrites golden files."""

from __future__ import annotations

import gc
import json
import shlex
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

from estimator.cli import run
from estimator.trace import forget

# the same examples on every machine, however slow it is; explore with `pytest --hypothesis-profile=default`
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
WIDTH = "100"


class Ran(NamedTuple):
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["results"]
        return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite golden files and the outputs in the docs"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark ``thorough`` all cases of a test but one, drawn by its name, unless it is marked ``whole``.

    ``make test`` runs that one, ``make thorough`` the others.
    """
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not any(item.iter_markers("whole")) and not any(item.iter_markers("thorough")):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in tests.items():
        kept = Random(name).choice(cases)
        for item in cases:
            if item is not kept:
                item.add_marker("thorough")


def pytest_collection_finish() -> None:
    """What is collected stays until the end: the garbage collector need not walk it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "LLMCALC_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", WIDTH)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(autouse=True)
def _no_letters_of_other_tests() -> None:
    forget()


@pytest.fixture
def llmcalc(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """``llmcalc("peft --method lora --format json")`` or ``llmcalc("peft", "--rank", 8)``: one command line."""

    def call(*argv: Any) -> Ran:
        words = shlex.split(argv[0]) if len(argv) == 1 else [str(a) for a in argv]
        capsys.readouterr()
        code = run(words)
        got = capsys.readouterr()
        return Ran(code, got.out, got.err)

    return call
