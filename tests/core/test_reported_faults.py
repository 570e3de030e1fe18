"""Command lines that once gave a wrong answer (tests/data/faults.json): each gives what is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = json.loads(Path(__file__).parents[1].joinpath("data/faults.json").read_text())["cases"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with CFG/, and CFG/empty in it."""
    (tmp_path / "CFG" / "empty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", [c for c in CASES if "encoding" not in c], ids=lambda c: c["command"][:60])
def test_answer(llmcalc, folder, case):
    if "config" in case:
        (folder / "CFG" / "config.json").write_text(json.dumps(case["config"]))
    ran = llmcalc(case["command"])
    assert ran.code == case.get("exit", 0)
    for words in case.get("says", ()):
        assert words in ran.out + ran.err
    for words in case.get("silent", ()):
        assert words not in ran.out + ran.err
    for words in case.get("opens", ()):
        assert words in "\n".join(ran.out.splitlines()[:3])
    if "picture" in case:
        assert (folder / case["picture"]).read_bytes().startswith(b"\x89PNG")
    if not case.keys() & {"equal", "least", "most", "same"}:
        return
    got = llmcalc(f"{case['command']} --format json").results
    for key, value in case.get("equal", {}).items():
        assert got[key] == value
    for key, value in case.get("least", {}).items():
        assert got[key] >= value
    for key, value in case.get("most", {}).items():
        assert got[key] <= value
    if "same" in case:
        key = case["same"]["key"]
        assert got[key] == llmcalc(f"{case['same']['command']} --format json").results[key]


@pytest.mark.parametrize("case", [c for c in CASES if "encoding" in c], ids=lambda c: c["command"][:60])
def test_stream(case):
    """A stream that cannot carry every character: the answer comes all the same."""
    ran = subprocess.run(
        [sys.executable, "-m", "estimator", *case["command"].split()],
        env=os.environ | {"PYTHONIOENCODING": case["encoding"]}, capture_output=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr.decode(case["encoding"]).count("Traceback")) == (case["exit"], 0)
    assert ran.stdout
