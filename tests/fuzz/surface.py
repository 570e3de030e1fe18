"""Every command and option of the command line, read from the program itself, so that new ones are attacked too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
from random import Random
from typing import Any, NamedTuple

from typer.main import get_command

from estimator import cli, presets
from estimator.cli import COMMANDS, _dispatch
from estimator.errors import LlmcalcError

WHOLE = ("1", "2", "3", "4", "7", "8", "16", "64", "100", "1k", "2k", "4096")
PARTS = ("0", "0.1", "0.5", "0.9", "1", "1.5", "2", "10")
BYTES = ("512MB", "16GB", "24GiB", "80GB")
LETTERS = ("n", "B", "R", "N_d", "L", "E", "I")
ODD = (
    "",
    " ",
    "-1",
    "0",
    "1e400",
    "-1e-400",
    "nan",
    "inf",
    "-inf",
    "1e40",
    "9" * 50,
    "9" * 5000,
    "0x10",
    "1,2,3",
    "1_0_",
    "१२",
    "'",
    '"',
    "{",
    "}",
    "[1,2",
    "--",
    "-",
    "=",
    "a=b",
    "../../etc/passwd",
    "/dev/zero",
    "/dev/full",
    "~nosuch/x",
    "\x1b[31mred",
    "a\nb",
    "\u202eabc",
    "%s%n",
    "{0.__class__}",
    "$(id)",
    "`id`",
    "x" * 400,
    "None",
    "true",
    "null",
    "all",
    "none",
    "symbolic",
    "((a+)+)+!",
    ".*",
    "1e9",
    "1e18",
    "\ud800",
)
_COUNTS = ("N", "COUNT", "R", "SIZE", "TOKENS", "PIXELS", "S", "SIZES")
_REALS = ("X", "SHARE", "P", "PERCENT", "USD", "RATE", "W", "KG", "HOURS", "GB/S", "FLOPS")
_PAIRS = ("NAME=VALUE", "FIELD=VALUE", "OLD=NEW,...")
_FILES = ("FILE", "FOLDER", "FILE.csv", "DIR", "PATH")
FORMATS = ("table", "json", "csv", "markdown", "latex", "html")


# what asks a command, or descends, thousands of times over: an answer takes a minute at most
SEARCHES = (("chinchilla", "fit"), ("plan",), ("sweep",))


def searches(words: Sequence[str]) -> bool:
    """Whether a command line is a search."""
    return any(tuple(words[: len(s)]) == s for s in SEARCHES)


class Option(NamedTuple):
    """An option: its flag, whether it takes a value, what its value is called, the spelling of its type."""

    flag: str
    valued: bool
    metavar: str
    kind: str
    default: Any
    off: str = ""


class Surface(NamedTuple):
    """A command: its words, its options by flag, its arguments' placeholders."""

    words: tuple[str, ...]
    options: tuple[Option, ...]
    arguments: tuple[str, ...]
    flags: frozenset[str]  # of its options


def _type(parameter: Any) -> str:
    """int, float or text."""
    found = str(getattr(parameter, "type_descriptor", None) or getattr(parameter, "type", ""))
    return next((name for name in ("int", "float") if f"'{name}'" in found), "text")


def _surface(words: tuple[str, ...], made: Any) -> Surface:
    options, arguments = [], []
    for p in made.params:
        if p.param_type_name == "argument":
            arguments.append(p.metavar or p.name.upper())
            continue
        flag = max(p.opts, key=len)
        if flag == "--help":
            continue
        off = max(p.secondary_opts, key=len) if p.secondary_opts else ""
        bare = p.is_flag or flag == "--derive"  # which takes a key too, but after an equals sign alone
        options.append(Option(flag, not bare, p.metavar or "", _type(p), p.default, off))
    return Surface(words, tuple(options), tuple(arguments), frozenset(o.flag for o in options))


@cache
def surfaces() -> tuple[Surface, ...]:
    """All commands and their sub-commands."""
    out = []
    for name, (folder, _) in COMMANDS.items():
        module = import_module(f"estimator.commands.{folder}.cli")
        made: Any = get_command(module.app)
        under = getattr(made, "commands", {})
        if not under or getattr(made, "invoke_without_command", False):
            out.append(_surface((name,), made))
        for sub, one in under.items():  # sweep makes the options of a command when it is named
            whole = get_command(module.app_of([sub])).commands[sub] if hasattr(module, "app_of") else one
            out.append(_surface((name, sub), whole))
    return tuple(out)


@cache
def taking(*flags: str, without: tuple[str, ...] = ()) -> tuple[Surface, ...]:
    """The commands that have these options, but those whose first word is in ``without``."""
    return tuple(s for s in surfaces() if s.flags >= set(flags) and s.words[0] not in without)


@cache
def quick() -> tuple[Surface, ...]:
    """The commands that are no search."""
    return tuple(s for s in surfaces() if not searches(s.words))


_make = cli.typer_of


@cache
def _made(name: str, swept: str | None, helped: bool) -> Any:
    return _make(name, () if swept is None else (swept,))


def keep_commands() -> None:
    """Make each command's options once in this process, and not for every line: that takes longer than most answers."""

    def typer_of(name: str, words: Sequence[str] = ()) -> Any:
        return _made(name, next((w for w in words if not w.startswith("-")), None) if name == "sweep" else None,
                     "--help" in words)  # fmt: skip

    cli.typer_of = typer_of


@cache
def known(words: tuple[str, ...], flag: str) -> tuple[str, ...]:
    """The names that an option takes, as the error for an unknown one lists them."""
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            _dispatch([*words, flag, "zzqqx"])
    except LlmcalcError as error:
        found = re.search(r"Known: ([^;:]*?)(?:\. |$)", str(error))
        return tuple(w.strip(" '.") for w in found[1].split(",") if w.strip()) if found else ()
    except Exception as error:  # a usage error of Typer
        if not hasattr(error, "format_message"):
            raise
    return ()


@cache
def models() -> tuple[str, ...]:
    """Presets of models, small ones first among equals."""
    return tuple(presets.ids("models"))


@cache
def gpus() -> tuple[str, ...]:
    """Presets of GPUs."""
    return tuple(presets.ids("gpus"))


def named(option: Option) -> bool:
    """Whether the values of an option are names."""
    m = option.metavar
    return not (
        option.flag == "--format" or m in ("MODEL", "BYTES", *_PAIRS, *_FILES, *_COUNTS, *_REALS)
        or m.startswith("GPU") or option.kind in ("int", "float")
    )  # fmt: skip


def valid(rng: Random, command: Surface, option: Option) -> str | None:
    """A value that the option should take; None where none is known."""
    m = option.metavar
    if command.words[0] == "sweep" and (m in _COUNTS or m in _REALS) and rng.random() < 0.5:
        return rng.choice(("1,2,4", "1:4", "1:64:x2", "2:10:4", "1k:4k:x2", "0.5,0.9"))
    if option.flag == "--format":
        return rng.choice(FORMATS)
    if m == "MODEL":
        return rng.choice(models()) if rng.random() < 0.9 else "symbolic"
    if m.startswith("GPU"):
        return rng.choice(gpus())
    if m == "BYTES":
        return rng.choice(BYTES)
    if m in _FILES:
        return None
    if m in _COUNTS or option.kind == "int":
        return rng.choice(LETTERS) if rng.random() < 0.03 else rng.choice(WHOLE)
    if m in _REALS or option.kind == "float":
        return rng.choice(PARTS)
    if m in _PAIRS:
        return rng.choice(
            ("num_hidden_layers=2", "hidden_size=64", "r=4", "lora_alpha=8", "L=N_layer", "d=D", "vocab_size=100")
        )
    names = known(command.words, option.flag)
    return rng.choice(names) if names else rng.choice((*WHOLE, *PARTS, "all", "none", "auto", "q_proj,v_proj"))


def line(rng: Random, command: Surface, most: int = 6, honest: float = 0.8, without: tuple[str, ...] = ()) -> list[str]:
    """Words of a command line: some options of a command, most of them with values that they take."""
    argv: list[str] = []
    usable = [o for o in command.options if o.flag not in (*without, "--output", "--with-transformers")]
    for option in rng.sample(usable, min(len(usable), rng.randint(0, most))):
        if not option.valued:
            argv.append(option.off if option.off and rng.random() < 0.5 else option.flag)
            continue
        value = valid(rng, command, option) if rng.random() < honest else rng.choice(ODD)
        if value is not None and not str(value).startswith("hf:"):
            argv += [option.flag, value]
    return argv
