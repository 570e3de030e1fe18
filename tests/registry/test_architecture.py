"""docs/architecture.md beside the code: its paths, its rooms, and where it says that a number is found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from estimator import api

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "estimator"
PAGE = (ROOT / "docs/architecture.md").read_text()
NAMED = set(re.findall(r"`(?:estimator/)?([a-z_/]+(?:\.py|/))", PAGE))
RUNS: dict[str, dict[str, Any]] = {
    "memory": {"model": "llama-3-8b", "mode": "training", "method": "lora", "gpu": "rtx-4090"},
    "kvcache": {"model": "llama-3-8b", "gpu": "h100-sxm"},
    "flops": {"model": "llama-3-8b", "mode": "training"},
    "peft": {"model": "llama-3-8b", "method": "lora"},
    "zero": {"params": "7e9", "gpus": 8},
    "train": {"model": "llama-3-8b", "gpu": "h100-sxm", "gpus": 8, "tokens": "1e9"},
    "infer": {"model": "llama-3-8b", "gpu": "h100-sxm"},
    "chinchilla": {"compute": "1e21"},
}


@pytest.mark.parametrize("path", sorted(NAMED))
def test_each_path_is_there(path: str) -> None:
    places = (ROOT, CODE, CODE / "peft", CODE / "commands/memory", ROOT / "docs")
    assert any((place / path).exists() for place in places), path


def test_each_room_is_named() -> None:
    rooms = {f"{p.name}/" for p in CODE.iterdir() if p.is_dir() and p.name not in ("commands", "__pycache__")}
    files = {p.name for p in CODE.glob("*.py") if not p.name.startswith("_")}
    assert (rooms | files) <= NAMED


@pytest.mark.parametrize("command", RUNS)
def test_a_number_is_found_in_two_guesses(command: str) -> None:
    rooms = [CODE / "commands" / command, *([CODE / "chinchilla"] if command == "chinchilla" else [])]
    files = [p for room in rooms for p in room.glob("*.py")] + [CODE / "fit.py", CODE / "card.py"]
    text = " ".join(p.read_text() for p in files)
    words = {*re.findall(r"[\w.]+", text), *re.findall(r"\w+", text)}
    for key in getattr(api, command)(**RUNS[command]).results():
        first, _, last = key.partition(".")
        parts = {key, first, last, re.sub(r"^\w+\.(\w+)_bytes$", r"\1", key)}
        assert parts & words, key
