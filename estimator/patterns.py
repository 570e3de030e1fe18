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
import warnings
from functools import lru_cache
from typing import Any

from estimator.errors import InputError

SECONDS = 1.0  # of a processor, that all names together may take of one pattern
PATIENCE = 4.0  # seconds of a clock, where the processor is busy with other things or does not count
_RISKY = re.compile(r"\)[*+{]|\\[1-9]")  # a repeated group; a reference back
_REPEATS = re.compile(r"[*+{]")
_MOST = 3  # repeats that a name of any module bears: its length to the third power
_CODE = """
import json, re, sys
from time import process_time
try:
    from signal import ITIMER_PROF, setitimer
except ImportError:
    ITIMER_PROF, setitimer = 0, lambda which, seconds: None
for line in sys.stdin:
    seconds, how, pattern, name = json.loads(line)
    start = process_time()
    setitimer(ITIMER_PROF, seconds)
    found = getattr(re, how)(pattern, name) is not None
    setitimer(ITIMER_PROF, 0)
    print(int(found), process_time() - start, flush=True)
"""


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, without the warnings of Python that a stranger's may raise. re.error where it is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(pattern)


class _Child:
    """A Python that tries patterns on names, one line each."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: Any = None

    def ask(self, key: tuple[str, str, str], seconds: float) -> tuple[bool, float] | None:
        """(whether the pattern takes the name, seconds of a processor that took); None where the time was up."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, text=True,
                )  # fmt: skip
            timer = threading.Timer(PATIENCE, self.process.kill)
            timer.start()
            try:
                self.process.stdin.write(json.dumps((seconds, *key)) + "\n")
                self.process.stdin.flush()
                answer = self.process.stdout.readline().strip()
            except OSError:
                answer = ""
            finally:
                timer.cancel()
            if not answer:
                self.end()
                return None
            found, took = answer.split()
            return bool(int(found)), float(took)

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
        return getattr(compiled(pattern), how)(name) is not None
    key = (how, pattern, name)
    if key not in _KNOWN:
        answer = _CHILD.ask(key, max(0.01, SECONDS - _SPENT.get(pattern, 0.0)))
        _SPENT[pattern] = _SPENT.get(pattern, 0.0) + (answer[1] if answer else SECONDS)
        if answer is None or _SPENT[pattern] > SECONDS:
            _SPENT.pop(pattern)
            raise InputError(
                f"the pattern {pattern[:60]!r} takes too long on {name[:60]!r}: no repeats inside a repeated group"
            )
        _KNOWN[key] = answer[0]
    return _KNOWN[key]
