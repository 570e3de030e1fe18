"""Every recorded file stands in tests/data/README.md, with the script that renews it or where it is copied from."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/data", "tests/accuracy")
RECORDED = (".json", ".gz", ".csv")
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in (ROOT / "tests/data/README.md").read_text().splitlines()
    if line.startswith("| `")
]


def test_every_recorded_file_is_listed_once() -> None:
    there = {f"{at}/{p.name}" for at in FOLDERS for p in (ROOT / at).iterdir() if p.suffix in RECORDED}
    assert sorted(row[0] for row in ROWS) == sorted(there)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_is_renewed_by_a_script_or_copied_from_a_source(row: list[str]) -> None:
    _, what, script, source = row
    assert what
    assert bool(script) != bool(source)
    assert "no script" not in source
    if script:
        text = (ROOT / script).read_text()
        assert "python" in text or "Writes" in text or "torchrun" in text  # says how it is run
