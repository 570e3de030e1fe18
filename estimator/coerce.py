"""Texts of the command line to str, int, float and lists of str, without pydantic.

Typer 0.29 builds a pydantic adapter for each option, a third of a cold command. Our options are texts and numbers,
which need none; options of other types keep Typer's own. Where a Typer keeps its coercion elsewhere, setting the
attribute changes nothing and the command line is only slower: tests/startup asserts what is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import typer


class PlainType:
    """Stands in for a parameter's runtime coercion: ``coerce(value, param=, ctx=)`` with the option's type."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """``value`` as the annotation says; BadParameter, which names the option, where it is not that."""
        if value is None or self.annotation in (str, bool):  # a flag's value is a bool already
            return value
        if self.annotation == list[str]:
            return list(value)
        try:
            number = self.annotation(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if number != number:
            kind = "a whole number" if self.annotation is int else "a number"
            raise typer.BadParameter(f"{str(value)[:40]!r} is not {kind}", ctx=ctx, param=param)
        return number


def plain(command: Any, argv: Sequence[str]) -> Any:
    """``command`` (and its sub-commands) with plain coercion of the options that need no more.

    ``--help`` is an option with an adapter of its own, so it is there only where ``argv`` asks for it.
    """
    for child in getattr(command, "commands", {}).values():
        plain(child, argv)
    command.add_help_option = "--help" in argv
    for param in command.params:
        descriptor = getattr(param, "type_descriptor", None)
        info = getattr(descriptor, "parameter_info", None)
        annotation = getattr(descriptor, "annotation", None)
        simple = annotation in (str, int, float, bool) or annotation == list[str]
        if simple and not any(getattr(info, name, None) for name in ("parser", "click_type", "min", "max", "formats")):
            param._runtime_param = PlainType(annotation)
        if "--help" in argv:
            _readable(param, annotation)
    return command


PLACEHOLDERS = {str: "NAME", int: "N", float: "X"}  # in the help, for options that name none of their own


def _readable(param: Any, annotation: Any) -> None:
    """Capitals in place of Typer's ``<str>``: NAME for an option; an argument's own name says enough."""
    if getattr(param, "param_type_name", "") == "argument":
        param.display_type = lambda ctx: None
        param.metavar = param.metavar or str(param.name).upper()
    elif not getattr(param, "is_flag", False) and param.metavar is None:
        param.metavar = PLACEHOLDERS.get(annotation)
