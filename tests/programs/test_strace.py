"""What the documented commands ask of the kernel: nothing started, no socket, nothing written but ``--output``.

The fuzz suite hears Python's audit events (tests/fuzz/judge.py); strace also sees what a library's own code does.
``make strace`` runs these.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import documented

pytestmark = pytest.mark.strace
ROOT = Path(__file__).parents[2]
CALLS = "%network,execve,execveat,openat,open,creat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat"
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")


def asked_of_the_kernel(words: list[str], folder: Path) -> list[str]:
    """The calls of one command, of those above, that start, connect, write or remove."""
    trace = folder / "trace.txt"
    argv = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, "-B", "-m", "estimator"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    # exit codes are other tests' business: a documented refusal is one too
    subprocess.run([*argv, *words], cwd=folder, env=env, capture_output=True, timeout=120, check=False)
    calls = [line.partition(" ")[2].strip() for line in trace.read_text(errors="replace").splitlines()]
    assert calls[0].startswith("execve(")
    assert any("estimator" in c for c in calls)  # the program ran
    calls = [c for c in calls[1:] if not c.startswith(("+++", "---"))]  # ends of threads, signals
    return [c for c in calls if not c.startswith("open") or WRITES.search(c)]


def one_of_each() -> list[list[str]]:
    """The first documented command line of each command."""
    first: dict[tuple[str, ...], list[str]] = {}
    paired = ("plan", "decode", "compress", "chinchilla")
    for words in documented():
        if "hf:" not in " ".join(words):
            first.setdefault(tuple(words[: 2 if words[0] in paired else 1]), words)
    return list(first.values())


@pytest.mark.parametrize("words", one_of_each(), ids=" ".join)
def test_nothing_is_started_sent_or_written(words, tmp_path):
    assert asked_of_the_kernel(words, tmp_path) == []


def test_output_alone_is_written(tmp_path):
    done = asked_of_the_kernel(["memory", "gpt2", "--output", "answer.txt"], tmp_path)
    assert done
    assert all("answer.txt" in call or str(tmp_path) in call or '"/dev/null"' in call for call in done), done
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answer.txt", "trace.txt"]
