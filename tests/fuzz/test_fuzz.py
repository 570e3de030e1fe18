"""A little of every kind of attack; ``make fuzz`` runs them for hours."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.inputs import KINDS
from tests.fuzz.judge import judge
from tests.fuzz.surface import surfaces

SEED = 20
# inputs of a kind: a few seconds each
SOME = {"options": 60, "configs": 60, "runs": 2, "measurements": 8, "scenarios": 30, "adapters": 40}


@pytest.mark.parametrize("kind", KINDS)
def test_any_input_is_an_answer_or_one_line(kind, tmp_path, monkeypatch):
    here = tmp_path / "here"
    files = tmp_path / "files"
    here.mkdir()
    files.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    for number in range(SOME.get(kind, 25)):
        argv, output = KINDS[kind](Random(f"{SEED}:{kind}:{number}"), files)
        code, faults = judge(argv, output, seconds=60)  # this machine may be slow; the long runs hold the time
        assert not faults, (
            f"python -m tests.fuzz --kind {kind} --seed {SEED} --only {number}: {argv} -> {code}, {faults}"
        )
    assert not list(here.iterdir())


def test_every_command_and_option_is_attacked():
    """The surface is the program's own: a command that is added is found."""
    from estimator.cli import COMMANDS

    assert {s.words[0] for s in surfaces()} == set(COMMANDS)
    assert all(s.options or s.arguments for s in surfaces())


def test_the_judge_hears_writes_and_connections(tmp_path, monkeypatch):
    from tests.fuzz import judge as module

    def wrong(argv: list[str]) -> int:
        (tmp_path / "x").write_text("y")
        print("ok")
        return 0

    monkeypatch.setattr(module, "run", wrong)
    assert any("opened for writing" in fault for fault in judge(["peft"])[1])
    monkeypatch.setattr(module, "run", lambda argv: 70)
    assert any("exit 70" in fault for fault in judge(["peft"])[1])
