"""What holds of any input: an exit code, short lines, no traceback, bounded time, nothing written, run or sent."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import process_time
from typing import Any

from estimator.cli import run
from tests.fuzz.surface import searches

SECONDS = 5.0  # an answer, an error
SEARCH_SECONDS = 60.0
LINE = 300  # characters on standard error
CODES = (0, 2, 3, 130)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SAFE = ("/dev/null", "/proc/")
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "os.link",
    "os.symlink",
    "shutil.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "socket.bind",
    "socket.sendto",
    "socket.getaddrinfo",
    "pty.spawn",
)
SEEN: list[str] = []
_WATCHING = False
_ALLOWED = ""


class TooLong(BaseException):
    """The time of one input is up."""


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if not _WATCHING:
        return
    if event == "open":
        path, mode, flags = args
        if isinstance(path, int) or ((mode is None or not set(mode) & set("wax+")) and not (flags or 0) & _WRITING):
            return
        text = os.fsdecode(path)
        if "__pycache__" in text or text.startswith(_SAFE) or (_ALLOWED and text.startswith(_ALLOWED)):
            return
        SEEN.append(f"opened for writing: {text}")
    elif event.startswith(_CHANGES):
        text = " ".join(str(a) for a in args if isinstance(a, str | bytes))
        if not (_ALLOWED and _ALLOWED in text):
            SEEN.append(f"{event} {text[:80]}")
    elif event == "subprocess.Popen" and not (args[0] == sys.executable and "-I" in args[1]):
        SEEN.append(f"started {args[0]}")  # a Python of its own tries doubtful patterns


_HOOKED = False


def watch() -> None:
    """Hear what the interpreter opens, changes, starts and connects to from now on."""
    global _HOOKED
    if not _HOOKED:
        sys.dont_write_bytecode = True  # of modules that an input is the first to need
        sys.addaudithook(_heard)
        _HOOKED = True


def _alarm(*_: Any) -> None:
    raise TooLong


def judge(argv: list[str], output: Path | None = None, seconds: float | None = None) -> tuple[int, list[str]]:
    """(exit code, what is wrong) of one command line. output: the only file that it may write."""
    global _WATCHING, _ALLOWED
    limit = seconds or (SEARCH_SECONDS if searches(argv) else SECONDS)
    out, err = io.StringIO(), io.StringIO()
    SEEN.clear()
    _ALLOWED = "" if output is None else str(output.parent)
    watch()
    faults: list[str] = []
    timed = hasattr(signal, "setitimer")
    if timed:
        before = signal.signal(signal.SIGPROF, _alarm)
        signal.setitimer(signal.ITIMER_PROF, limit)  # its own seconds, however busy the machine
    start, code = process_time(), 70
    try:
        with redirect_stdout(out), redirect_stderr(err):
            _WATCHING = True
            code = run(argv)
    except TooLong:
        faults.append(f"more than {limit:g} s")
    except BaseException as error:
        faults.append(f"{type(error).__name__}: {str(error)[:200]}")
    finally:
        _WATCHING = False
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
    if not faults:
        if process_time() - start > limit:
            faults.append(f"took {process_time() - start:.1f} s")
        faults += _said(code, out.getvalue(), err.getvalue(), argv)
    return code, faults + [f"did: {what}" for what in SEEN]


def _said(code: int, out: str, err: str, argv: list[str]) -> list[str]:
    """What is wrong with an exit code and the two streams."""
    faults = []
    if code not in CODES:
        faults.append(f"exit {code}: {err[-300:]}")
    if "Traceback" in err or "Traceback (most" in out:
        faults.append("a traceback")
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if len(errors) != (code in (2, 3)):
        faults.append(f"{len(errors)} error lines with exit {code}: {err[:200]}")
    if any(not line.startswith(("error: ", "note: ")) for line in lines):
        faults.append(f"a line that is neither error nor note: {err[:200]!r}")
    if any(len(line) > LINE for line in lines):
        faults.append(f"a line of {max(map(len, lines))} characters")
    if code == 2 and out:
        faults.append(f"an answer before an error: {out[:80]!r}")
    if code == 0 and not out and "--output" not in argv and "-o" not in argv:
        faults.append("no answer")
    if any((c < " " and c != "\n") or "\x7f" <= c < "\xa0" for c in out):
        faults.append("control characters in the answer")
    if code == 0 and out and _format(argv) == "json" and "--help" not in argv and "-h" not in argv:
        try:
            json.loads(out, parse_constant=lambda c: faults.append(f"{c} in JSON"))
        except ValueError as error:
            faults.append(f"invalid JSON: {error}")
    return faults


def _format(argv: list[str]) -> str:
    """The last --format of a command line."""
    asked = [argv[i + 1] for i, word in enumerate(argv[:-1]) if word in ("--format", "-f")]
    return asked[-1] if asked else "table"
