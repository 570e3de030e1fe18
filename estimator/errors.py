"""Every error a user can meet.

LlmcalcError            what was wrong, what was got, what to do; one line
├── InputError          exit 2: a flag, file or value that cannot be used
├── DoesNotFit          exit 3: the answer is "no" and --check-fit asked for it
└── InternalError       exit 70: the program contradicts itself (a derivation that differs from its table)
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LlmcalcError(Exception):
    """Base of all errors that end as one line on standard error."""

    exit_code = 1


class InputError(LlmcalcError):
    """The input cannot be used; the message names the flag or file, what was got, and what to do."""

    exit_code = 2


class DoesNotFit(LlmcalcError):
    """The workload does not fit the device; raised only under ``--check-fit``."""

    exit_code = 3


class InternalError(LlmcalcError):
    """The program contradicts itself; please report it."""

    exit_code = 70


def unknown(kind: str, got: str, known: Iterable[str], hint: str = "", every: bool = True) -> InputError:
    """An InputError for a name that is not in a table, with the nearest known names.

    every: list all of them where none is near; False for names that may mean something that is not in the table, of
    which only a likely typing error is suggested.
    """
    names = sorted(known)
    by_key = {name.lower(): name for name in names}
    near = [by_key[key] for key in get_close_matches(got.lower(), by_key, n=3, cutoff=0.6)]
    near.sort(key=lambda name: sorted(name.lower()) != sorted(got.lower()))  # letters swapped: lroa, lora
    shown = got if len(got) <= 60 else got[:57] + "..."
    where, _, what = kind.rpartition(": ")
    text = f"{where}{': ' if where else ''}unknown {what} {shown!r}."
    if near:
        text += " Did you mean " + " or ".join(repr(n) for n in near) + "?"
    elif every and 0 < len(names) <= 40:
        text += " Known: " + ", ".join(names) + "."
    return InputError(text + (f" {hint}" if hint else ""))
