"""Completion in real shells, and the manual page in a real man."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.programs import ROOT, program

pytestmark = pytest.mark.programs


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """A home of its own with ``llmcalc`` on the path: the environment of a shell."""
    command = tmp_path / "bin" / "llmcalc"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m estimator "$@"\n')
    command.chmod(0o755)
    return {"HOME": str(tmp_path), "PATH": f"{command.parent}:{os.environ['PATH']}", "TERM": "xterm", "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT), "COLUMNS": "200", "LINES": "60"}  # fmt: skip


def typed(argv: list[str], home: dict[str, str], setup: str, keys: str, wanted: str, wait: float = 20) -> str:
    """What a shell on a terminal shows after ``setup`` and then ``keys``, up to ``wanted``."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(argv[0], argv, home)
    seen = b""

    def read(until: str, most: float) -> None:
        nonlocal seen
        end = time.monotonic() + most
        while time.monotonic() < end and until.encode() not in seen:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    seen += os.read(terminal, 65536)
                except OSError:
                    return

    try:
        os.write(terminal, f"{setup}; echo rea''dy\n".encode())
        read("ready", wait)
        seen = b""
        os.write(terminal, keys.encode())
        read(wanted, wait)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


SETUP = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(llmcalc completion bash)"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u; source <(llmcalc completion zsh)"),
    "fish": (["fish", "--no-config", "-i"], "llmcalc completion fish | source"),
}


@pytest.mark.parametrize("shell", SETUP)
@pytest.mark.parametrize(("keys", "wanted"), [
    ("llmcalc kvc\t", "kvcache"),
    ("llmcalc memory --optimizer-in\t", "--optimizer-in-backward"),
    ("llmcalc memory --optimizer adamw-fu\t", "adamw-fused"),
    ("llmcalc memory mixtral-8x7\t", "mixtral-8x7b"),
    ("llmcalc kvcache --gpu h100-sx\t", "h100-sxm"),
    ("llmcalc decode spec\t", "speculative"),
])  # fmt: skip
def test_tab_completes(home, shell, keys, wanted):
    program(shell, shell)
    argv, setup = SETUP[shell]
    assert wanted in typed(argv, home, setup, keys, wanted)


def test_bash_lists_what_is_possible(home):
    shown = typed(*_start("bash", home), "llmcalc peft --method lo\t\t", "loha")
    assert {"loha", "lokr", "lora"} <= set(shown.split())


def _start(shell: str, home: dict[str, str]):
    argv, setup = SETUP[shell]
    return argv, home, setup


def test_zsh_says_what_options_mean(home):
    shown = typed(*_start("zsh", home), "llmcalc peft --red\t\t", "Solve for the rank")
    assert "--reduction" in shown


def test_installed_completion_is_found(home):
    """--install-completion, then a fresh interactive bash that reads its rc."""
    command = ["llmcalc", "--install-completion", "bash"]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert "open a new shell" in done.stderr
    shown = typed(["bash", "--noprofile", "-i"], home, "true", "llmcalc kvc\t", "kvcache")
    assert "kvcache" in shown


def test_the_manual_page_is_clean(home, tmp_path):
    man = program("man", "man-db")
    for name in ([], ["memory"], ["peft"], ["decode"]):
        page = tmp_path / "page.1"
        made = subprocess.run(["llmcalc", "man", *name], env=home, capture_output=True, text=True, check=True)
        page.write_text(made.stdout)
        ran = subprocess.run(
            [man, "--warnings", "-l", "-Tutf8", str(page)], env=home | {"MANPAGER": "cat", "MANWIDTH": "100"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ran.stderr == ""
        shown = re.sub(".\x08", "", ran.stdout)  # bold is a letter over itself
        assert "EXIT STATUS" in shown
        if name == ["peft"]:
            assert re.search(r"--rank, -r R\s+Rank of the adapter", shown)
