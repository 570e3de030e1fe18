"""A formula's text as a syntax tree: numbers, names, ``+ - * / **``, parentheses and six functions.

A tokenizer and precedence climbing, nothing more: there is no attribute, no index, no string, no comparison and no
call beyond FUNCTIONS in the grammar, so nothing in a scenario file can be executed. Length, size and depth are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from estimator.errors import InputError, unknown
from estimator.fermi.numbers import parse_number, shorten
from estimator.records import dataclass

MAX_LENGTH = 1000
MAX_NODES = 200
MAX_DEPTH = 40

# name -> least and most number of arguments
FUNCTIONS = {"min": (1, 20), "max": (1, 20), "sqrt": (1, 1), "log": (1, 1), "exp": (1, 1)}


@dataclass(frozen=True, slots=True)
class Num:
    """A literal; ``text`` is how it was written."""

    value: Fraction
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    """Another quantity."""

    name: str


@dataclass(frozen=True, slots=True)
class Neg:
    """A minus sign."""

    arg: Expr


@dataclass(frozen=True, slots=True)
class Op:
    """``left op right``; op is one of ``+ - * / **``."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Call:
    """One of FUNCTIONS, applied."""

    func: str
    args: tuple[Expr, ...]


Expr = Num | Name | Neg | Op | Call

_TOKEN = re.compile(
    r"\s*(?:(?P<num>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<op>\*\*|[-+*/(),]))"
)
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 4}
_UNARY = 3  # -x**2 is -(x**2), and 2**-1 is allowed


def parse(text: str, where: str) -> Expr:
    """The syntax tree of ``text``; InputError, which starts with ``where``, for anything outside the grammar."""
    if len(text) > MAX_LENGTH:
        raise InputError(f"{where}: a formula of {len(text)} characters; at most {MAX_LENGTH}: split it into steps")
    return _Parser(text, where).parse()


def names(expr: Expr) -> tuple[str, ...]:
    """The quantities a formula refers to, once each, in reading order."""
    return tuple(dict.fromkeys(n.name for n in walk(expr) if isinstance(n, Name)))


def walk(expr: Expr) -> Iterator[Expr]:
    """The tree's nodes, left to right."""
    yield expr
    if isinstance(expr, Neg):
        yield from walk(expr.arg)
    elif isinstance(expr, Op):
        yield from walk(expr.left)
        yield from walk(expr.right)
    elif isinstance(expr, Call):
        for a in expr.args:
            yield from walk(a)


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self.where, self.text = where, text
        self.tokens = self._tokens(text)
        self.at = self.nodes = self.depth = 0

    def fail(self, why: str) -> InputError:
        return InputError(f"{self.where}: {why} in {shorten(self.text, 60)!r}")

    def _tokens(self, text: str) -> list[tuple[str, str]]:
        out, at = [], 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if not match:
                bad = text[at:].lstrip()[0]
                hint = {"^": ": powers are written **", "%": ": write 0.3 for 30%", "=": ": a formula has no '='"}.get(
                    bad, ""
                )
                raise self.fail(f"{bad!r} is not allowed{hint or ' (only numbers, names, + - * / ** and parentheses)'}")
            out.append((match.lastgroup or "", match.group(match.lastgroup or 0)))
            at = match.end()
        return out

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "the end")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, op: str) -> None:
        if self.peek() != ("op", op):
            raise self.fail(f"expected {op!r} before {shorten(self.peek()[1])!r}")
        self.at += 1

    def made(self, node: Expr) -> Expr:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.fail(f"more than {MAX_NODES} operations; split the formula into steps")
        return node

    def parse(self) -> Expr:
        if not self.tokens:
            raise InputError(f"{self.where}: an empty formula")
        tree = self.expression(0)
        if self.at < len(self.tokens):
            raise self.fail(f"unexpected {shorten(self.peek()[1])!r}")
        return tree

    def expression(self, least: int) -> Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(f"nested deeper than {MAX_DEPTH}")
        left = self.prefix()
        while self.peek()[0] == "op" and _PRECEDENCE.get(self.peek()[1], -1) >= least:
            op = self.take()[1]
            # ** groups to the right, the others to the left
            right = self.expression(_PRECEDENCE[op] if op == "**" else _PRECEDENCE[op] + 1)
            left = self.made(Op(op, left, right))
        self.depth -= 1
        return left

    def prefix(self) -> Expr:
        kind, text = self.take()
        if kind == "num":
            return self.made(Num(parse_number(text, self.where), text))
        if kind == "name":
            return self.call(text) if self.peek() == ("op", "(") else self.made(Name(text))
        if text == "(":
            inside = self.expression(0)
            self.expect(")")
            return inside
        if text in ("-", "+"):
            inside = self.expression(_UNARY)
            return self.made(Neg(inside)) if text == "-" else inside
        raise self.fail(f"expected a number or a name, got {shorten(text)!r}")

    def call(self, func: str) -> Expr:
        if func not in FUNCTIONS:
            raise unknown("function", func, FUNCTIONS, f"In {self.where}")
        self.expect("(")
        args = [self.expression(0)]
        while self.peek() == ("op", ","):
            self.take()
            args.append(self.expression(0))
        self.expect(")")
        least, most = FUNCTIONS[func]
        if not least <= len(args) <= most:
            raise self.fail(
                f"{func} takes {'one argument' if most == 1 else f'{least} to {most} arguments'}, got {len(args)}"
            )
        return self.made(Call(func, tuple(args)))
