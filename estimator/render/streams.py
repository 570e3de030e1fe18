"""Text on its way out: what a stream cannot carry, control characters of other people's files, files written whole."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from estimator.errors import InputError

MOST = 300  # characters of one line on standard error
# drawings in ASCII, for streams that know no others
_ASCII = str.maketrans({
    "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "=", "▍": "=", "▎": "-", "▏": "-", "─": "-", "━": "-", "│": "|",
    "┃": "|", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+", "┼": "+", "╭": "+",
    "╮": "+", "╯": "+", "╰": "+", "╴": "-", "╶": "-", "╵": "|", "╷": "|", "·": ".", "•": "*", "●": "o", "○": "o",
    "×": "x", "÷": "/", "≤": "<=", "≥": ">=", "≈": "~", "µ": "u", "−": "-", "–": "-", "—": "-", "→": "->", "∞": "inf",
    "∝": "~", "±": "+-", "√": "sqrt", "ε": "eps", "…": "...",
    "▓": "%", "▒": "o", "░": ":", "◆": "O", **{chr(0x2800 + dots): "." if dots else " " for dots in range(256)},
})  # fmt: skip
_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# a terminal acts on these; a file's title or a config's text has no business sending them
_CONTROL = {i: f"\\x{i:02x}" for i in (*range(32), 127, *range(128, 160))}
_CONTROL |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): " "}


class Closed(Exception):
    """The reader of standard output went away (head, less): no error of ours."""


def escaped(text: str) -> str:
    """``text`` with control characters and line ends shown in place of sent."""
    return text.translate(_CONTROL) if not text.isprintable() else text


def fitting(text: str, encoding: str | None) -> str:
    """``text`` as a stream of this encoding can carry it: drawings in ASCII, anything else it lacks as ``?``."""
    if encoding is None:  # a stream of text in memory
        return text
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        flat = re.sub("[⁻⁰¹²³⁴-⁹]+", lambda digits: "^" + digits[0].translate(_RAISED), text)
        return flat.translate(_ASCII).encode(encoding, errors="replace").decode(encoding)
    return text


def write(text: str, stream: Any) -> None:
    """Write to standard output. Closed where its reader has gone; InputError where it takes no more."""
    if stream is None:
        raise InputError("standard output is closed; write to a file with --output")
    try:
        stream.write(fitting(text, getattr(stream, "encoding", None)))
        stream.flush()
    except BrokenPipeError:
        raise Closed from None
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):  # what is buffered must not fail again at the interpreter's exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise InputError(f"standard output: {getattr(error, 'strerror', None) or error}") from None


def say(line: str, most: int = MOST) -> None:
    """One line on standard error; nothing where there is no such stream."""
    if sys.stderr is None:
        return
    shown = escaped(line)
    shown = shown if len(shown) <= most else shown[: most - 3] + "..."
    with contextlib.suppress(OSError, ValueError):
        print(fitting(shown, sys.stderr.encoding), file=sys.stderr, flush=True)


def write_file(output: str, text: str | bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename. ``-`` is standard output.

    A link is followed; a file that may not be written is not replaced; mode and owner stay. InputError where it
    cannot be done.
    """
    if output == "-":
        write(text if isinstance(text, str) else text.decode(errors="replace"), sys.stdout)
        return
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    shown = escaped(output[:80])
    try:
        path = Path(output).expanduser()
        path = path.resolve() if path.is_symlink() else path
        if path.is_dir():
            raise InputError(f"--output {shown}: is a directory")
        if path.exists() and not path.is_file():  # a device: nothing to rename over; a pipe without a reader would wait
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb") as file:
                file.write(data)
            return
        if path.exists():
            _over(path, data)
        else:
            _new(path, data)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"--output {shown}: {getattr(error, 'strerror', None) or error}") from None


def _over(path: Path, data: bytes) -> None:
    """Replace a file's contents: by a rename where the owner is the same and it has one name, else in place."""
    with path.open("r+b"):  # whoever may not write it is told so
        pass
    found = path.stat()
    if found.st_nlink == 1 and found.st_uid == os.geteuid() and os.access(path.parent, os.W_OK):
        with contextlib.suppress(OSError):
            _new(path, data, found.st_mode & 0o7777)
            return
    path.write_bytes(data)


def _new(path: Path, data: bytes, mode: int | None = None) -> None:
    """A temporary file beside ``path``, renamed to it when it is whole."""
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".llmcalc.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask if mode is None else mode)  # noqa: PTH101
        os.replace(name, path)  # noqa: PTH105
    except OSError as error:
        if name:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
        if error.errno == errno.EACCES and not name:
            raise OSError(errno.EACCES, f"{path.parent} cannot be written to") from None
        raise
