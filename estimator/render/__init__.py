"""Renderers: a report in, text out; no arithmetic. ``emit`` prints it, or writes it to a file whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any

from estimator.errors import InputError, unknown
from estimator.report import Node, Report, Table, Text

FORMATS: dict[str, str] = {
    "table": "terminal",
    "json": "json",
    "csv": "csv",
    "markdown": "markdown",
    "latex": "latex",
    "html": "html",
    "latex-document": "latex",
}
NO_TEXT = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tiff")  # names of pictures
PAGES = (".html", ".htm")
# where set, it takes a report (with derive, symbols, detail) in place of a stream: the live page's way to have it
Receiver = Callable[[Report, bool | str, str | None, bool], None]
RECEIVER: ContextVar[Receiver | None] = ContextVar("receiver", default=None)


def clean(report: Report) -> Report:
    """The report with control characters of other people's texts shown, not sent; itself where there are none."""
    from estimator.render.streams import escaped

    def cleaned(part: Any) -> Any:
        if isinstance(part, Node):
            children = tuple(cleaned(c) for c in part.children)
            changed = any(a is not b for a, b in zip(children, part.children, strict=True))
            label, note = escaped(part.label), escaped(part.note)
            return part._replace(label=label, note=note, children=children) if (
                changed or label != part.label or note != part.note) else part  # fmt: skip
        if isinstance(part, Table):
            rows = tuple(tuple(lines(c) if isinstance(c, str) else c for c in r) for r in part.rows)
            columns = tuple(map(escaped, part.columns))
            return part._replace(title=escaped(part.title), columns=columns, rows=rows, note=escaped(part.note))
        if isinstance(part, Text):
            return part._replace(title=escaped(part.title), body=lines(part.body), latex=lines(part.latex))
        return part

    def lines(text: str) -> str:
        return text if text.isprintable() else "\n".join(map(escaped, text.split("\n")))

    def drawn(figure: Callable[[], Any]) -> Any:
        from estimator.render.plots import readable

        return readable(figure())

    return report._replace(
        figure=partial(drawn, report.figure) if report.figure else None,
        title=escaped(report.title),
        verdict=escaped(report.verdict),
        body=tuple(cleaned(p) for p in report.body),
        brief=tuple(cleaned(p) for p in report.brief),
        hidden=tuple(cleaned(p) for p in report.hidden),
        facts={k: escaped(v) if isinstance(v, str) else v for k, v in report.facts.items()},
        citations=tuple(type(c)(*(escaped(w) if isinstance(w, str) else w for w in c)) for c in report.citations),
        assumptions=tuple(map(escaped, report.assumptions)),
        notes=tuple(map(escaped, report.notes)),
        letters={k: escaped(v) for k, v in report.letters.items()},
    )


def check_format(name: str) -> str:
    """``name`` if it is a known format; InputError otherwise. Called before any work is done."""
    if name.partition(":")[0] not in FORMATS:
        raise unknown("--format", name, FORMATS)
    return name


def to_text(
    report: Report,
    format: str = "table",
    derive: bool | str = False,
    symbols: str | None = None,
    stream: Any = None,
    detail: bool = True,
    fragment: bool = False,
) -> str:
    """The report in one of ``FORMATS``; ``symbols`` renames letters (``L=N_layer``).

    derive: adds derivations: True or "steps" with their working, "short" without, or the keys of the numbers wanted
    ("added_bytes,gradients_bytes"): then the derivations are all that is shown.

    Without ``detail`` a table shows what a person asks first; every other format is whole. ``fragment``: HTML without
    the page around it, for a notebook.
    """
    kind, _, chosen = check_format(format).partition(":")  # csv:TITLE is --table TITLE
    module: Any = import_module(f"estimator.render.{FORMATS[kind]}")
    report = clean(report)
    derived: Any = None
    if derive or report.symbolic:
        from estimator.derive import derived as derivations

        derived = derivations(report, derive, symbols)
        if derive and not derived.found and report.inputs.get("engine"):
            none = "--derive: no formula is traced through an engine; its numbers are laid out, measured or fitted"
            report = report._replace(assumptions=(*report.assumptions, none))
        if derived.alone and kind not in ("json", "csv"):
            report = report._replace(body=(), brief=(), facts={}, hidden=())
    elif symbols:
        raise InputError("--symbols renames the letters of a derivation: add --derive")
    more: dict[str, Any] = {"stream": stream, "detail": detail} if kind == "table" else {}
    if kind == "csv":
        more = {"table": chosen}
    how = "fragment" if fragment else "document" if kind == "latex-document" else "render"
    text: str = getattr(module, how)(report, derived, bool(derive), **more)
    return text if text.endswith("\n") else text + "\n"


def emit(
    report: Report,
    format: str = "table",
    output: str | None = None,
    derive: bool | str = False,
    symbols: str | None = None,
    detail: bool = False,
) -> None:
    """Print the report, or write it to ``output``; its notes go to standard error.

    Where ``output`` names a picture, the report's figure is drawn into it; InputError where it has none. A name that
    ends in .html asks for HTML.
    """
    from estimator.render.streams import say, write, write_file

    receive = RECEIVER.get()
    if receive is not None and output is None and format == "table":
        return receive(report, derive, symbols, detail)
    if output is not None and not output.strip():
        raise InputError("--output is empty: give a file's name, or leave it out")
    as_page = output is not None and output.lower().endswith(PAGES) and format == "table"
    format_ = "html" if as_page else format
    if output is not None and output.lower().endswith(NO_TEXT):
        if report.figure is None:
            raise InputError(f"--output {output[:80]}: {report.command} has no picture to draw; name a text file")
        from estimator.render.plots import draw

        write_file(output, draw(report.figure(), output))
    elif output:
        write_file(output, to_text(report, format_, derive, symbols, None, detail))
    else:
        write(to_text(report, format_, derive, symbols, sys.stdout, detail), sys.stdout)
    beside = format == "table" and not output and sys.stdout.isatty()  # both streams are read together
    shown = report.assumed(not detail and not derive) if beside else ()
    for note in report.notes:
        if note not in shown:
            say(f"note: {note}")
    if format.startswith("csv"):
        from estimator.render.csv import left_out

        if titles := left_out(report, format.partition(":")[2]):
            say(f"note: further tables are not in this CSV: --table {' or --table '.join(map(repr, titles))}")
