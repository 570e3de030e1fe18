"""The manual page, in troff's man macros, made from the commands themselves."""

from __future__ import annotations

from typing import Any

from estimator._version import __version__
from estimator.cli import COMMANDS, MODEL_FIRST, typer_of
from estimator.errors import unknown

EXITS = (("0", "the answer was printed"), ("2", "bad input: one line says what was wrong, what was got, what to do"),
         ("3", "it does not fit (with --check-fit)"), ("70", "an error of the program's own"))  # fmt: skip


def escape(text: str) -> str:
    """Text as troff takes it: hyphens that can be copied, no line that begins with a control character."""
    made = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + made if made.startswith((".", "'")) else made


def page(name: str | None = None) -> str:
    """The page of llmcalc, or of one of its commands."""
    if name is not None and name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    title = "llmcalc" if name is None else f"llmcalc-{name}"
    what = (
        "memory, FLOPs, time and money of language models" if name is None else COMMANDS[name][1].rstrip(".").lower()
    )
    out = [
        f'.TH {title.upper().replace("-", chr(92) + "-")} 1 "" "llmcalc {__version__}" "User Commands"',
        ".SH NAME", f"{escape(title)} \\- {escape(what)}", ".SH SYNOPSIS",
    ]  # fmt: skip
    if name is None:
        out += [".B llmcalc", "\\fICOMMAND\\fR [\\fIMODEL\\fR] [\\fIOPTIONS\\fR]", ".SH COMMANDS"]
        for command, (_, line) in COMMANDS.items():
            out += [".TP", f".B {escape(command)}", escape(line)]
        out += [".PP", escape("The options of a command: llmcalc COMMAND --help, or llmcalc man COMMAND.")]
        for command in COMMANDS:
            out += [f".SH LLMCALC {command.upper()}", *_command(command)]
    else:
        first = " [\\fIMODEL\\fR]" if name in MODEL_FIRST else ""
        out += [f".B llmcalc {name}", f"{first.strip()} [\\fIOPTIONS\\fR]".strip(), ".SH DESCRIPTION", *_command(name)]
    out.append(".SH EXIT STATUS")
    for code, meaning in EXITS:
        out += [".TP", f".B {code}", escape(meaning)]
    return "\n".join([*out, ""])


def _command(name: str) -> list[str]:
    command = typer_of(name)
    out = [escape(COMMANDS[name][1])]
    for below, part in ({"": command} | getattr(command, "commands", {})).items():
        if below:
            out += [f".SS {escape(f'{name} {below}')}", escape(" ".join((part.help or "").split()))]
        for option in part.params:
            out += _option(option)
    return out


def _option(option: Any) -> list[str]:
    spelt = [o for o in (*option.opts, *option.secondary_opts) if o.startswith("-")]
    if not spelt:
        words = getattr(option, "help", "") or ""
        return [".TP", f".I {escape(str(option.name).upper())}", escape(" ".join(words.split())) or "\\&"]
    value = "" if getattr(option, "is_flag", False) else f" \\fI{escape(option.metavar or 'VALUE')}\\fR"
    names = ", ".join(f"\\fB{escape(o)}\\fR" for o in spelt)
    text = " ".join((getattr(option, "help", "") or "").split())
    default = option.default
    given = isinstance(default, str | int | float) and default not in ("", False, True)
    said = f" Default: {default}." if given else ""
    return [".TP", names + value, escape(text + said) or "\\&"]
