"""Golden files: the first line is the command, the rest what it prints (standard output, then standard error)."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = sorted(HERE.rglob("*.txt"))


@pytest.mark.whole
@pytest.mark.parametrize("case", CASES, ids=lambda p: str(p.relative_to(HERE)))
def test_golden(case, llmcalc, update_golden, tmp_path, monkeypatch):
    command, _, want = case.read_text().partition("\n")
    monkeypatch.chdir(tmp_path)
    if case.parent.name == "narrow":
        monkeypatch.setenv("COLUMNS", "80")
    ran = llmcalc(command.removeprefix("$ llmcalc "))
    got = ran.out + ran.err
    if update_golden:
        case.write_text(f"{command}\n{got}")
    else:
        assert got == want
    if case.parent.name == "errors":
        assert ran.code == 2
        assert ran.out == ""
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1
