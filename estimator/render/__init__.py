"""Renderers: a report in, text out; no arithmetic. ``emit`` prints it, or writes it to a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from estimator.errors import InputError, unknown
from estimator.report import Report

FORMATS: dict[str, str] = {
    "table": "terminal",
    "json": "json",
    "csv": "csv",
    "markdown": "markdown",
    "latex": "latex",
}


def check_format(name: str) -> str:
    """``name`` if it is a known format; InputError otherwise. Called before any work is done."""
    if name not in FORMATS:
        raise unknown("--format", name, FORMATS)
    return name


def to_text(
    report: Report,
    format: str = "table",
    derive: bool = False,
    symbols: str | None = None,
    stream: Any = None,
) -> str:
    """The report in one of ``FORMATS``; ``derive`` adds derivations, ``symbols`` renames letters (``L=N_layer``)."""
    module: Any = import_module(f"estimator.render.{FORMATS[check_format(format)]}")
    derived: Any = None
    if derive or report.symbolic:
        from estimator import derive as engine

        names = engine.Names(engine.renamed(report, symbols), report.letters)
        derived = (engine.derivations(report, names), engine.letters(report, names))
    elif symbols:
        raise InputError("--symbols renames the letters of a derivation: add --derive")
    text: str = module.render(report, derived, derive, **({"stream": stream} if format == "table" else {}))
    return text if text.endswith("\n") else text + "\n"


def emit(
    report: Report,
    format: str = "table",
    output: str | None = None,
    derive: bool = False,
    symbols: str | None = None,
) -> None:
    """Print the report, or write it to ``output``; its notes go to standard error."""
    if output is not None and not output.strip():
        raise InputError("--output is empty: give a file's name, or leave it out")
    text = to_text(report, format, derive, symbols, stream=None if output else sys.stdout)
    if output:
        write_file(output, text)
    else:
        sys.stdout.write(text)
        sys.stdout.flush()
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)


def write_file(output: str, text: str | bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename. InputError where it cannot be."""
    path = Path(output)
    data = text.encode() if isinstance(text, str) else text
    try:
        if path.is_dir():
            raise InputError(f"--output {output}: is a directory")
        if path.exists() and not path.is_file():  # a device or a pipe: nothing to rename over
            path.write_bytes(data)
            return
    except (OSError, ValueError) as error:
        raise InputError(f"--output {output[:80]}: {getattr(error, 'strerror', None) or error}") from None
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, (path.stat().st_mode & 0o777) if path.exists() else 0o666 & ~umask)  # noqa: PTH101
        os.replace(name, path)  # noqa: PTH105
    except (OSError, ValueError) as error:
        if name:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
        raise InputError(f"--output {output[:80]}: {getattr(error, 'strerror', None) or error}") from None
