"""Regular expressions of users and of files, which may take time exponential in the name that they are tried on.

A plain one is tried here. One that repeats a group, or repeats often, is tried in a child process that is ended when
its time is up: Python's engine cannot be stopped from within.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import subprocess
import sys
import threading
from time import perf_counter
from typing import Any

from estimator.errors import InputError

SECONDS = 1.0  # that all names together may take of one pattern
_RISKY = re.compile(r"\)[*+{]|\\[1-9]")  # a repeated group; a reference back
_REPEATS = re.compile(r"[*+{]")
_MOST = 3  # repeats that a name of any module bears: its length to the third power
_WORDS = {"match": re.match, "fullmatch": re.fullmatch, "search": re.search}
_CODE = """
import json, re, sys
for line in sys.stdin:
    how, pattern, name = json.loads(line)
    print(int(getattr(re, how)(pattern, name) is not None), flush=True)
"""


class _Child:
    """A Python that tries patterns on names, one line each."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: Any = None

    def ask(self, line: str, seconds: float) -> bool | None:
        """Whether the pattern takes the name; None where the time was up."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, text=True,
                )  # fmt: skip
            timer = threading.Timer(seconds, self.process.kill)
            timer.start()
            try:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()
                answer = self.process.stdout.readline().strip()
            except OSError:
                answer = ""
            finally:
                timer.cancel()
            if not answer:
                self.end()
            return bool(int(answer)) if answer else None

    def end(self) -> None:
        """End the child."""
        if self.process is not None:
            self.process.kill()
            with contextlib.suppress(OSError):
                self.process.communicate()
            self.process = None


_CHILD = _Child()
atexit.register(_CHILD.end)
_SPENT: dict[str, float] = {}
_KNOWN: dict[tuple[str, str, str], bool] = {}


def takes(pattern: str, name: str, how: str = "fullmatch") -> bool:
    """Whether ``pattern`` takes ``name`` by re.fullmatch, re.match or re.search. InputError where that takes too long.

    The pattern is known to compile.
    """
    if not _RISKY.search(pattern) and len(_REPEATS.findall(pattern)) <= _MOST:
        return _WORDS[how](pattern, name) is not None
    key = (how, pattern, name)
    if key not in _KNOWN:
        start = perf_counter()
        found = _CHILD.ask(json.dumps(key), max(0.01, SECONDS - _SPENT.get(pattern, 0.0)))
        _SPENT[pattern] = _SPENT.get(pattern, 0.0) + perf_counter() - start
        if found is None or _SPENT[pattern] > SECONDS:
            _SPENT.pop(pattern)
            raise InputError(
                f"the pattern {pattern[:60]!r} takes too long on {name[:60]!r}: no repeats inside a repeated group"
            )
        _KNOWN[key] = found
    return _KNOWN[key]
