"""A number's working as it is printed: its own steps, or those that follow from sums and formulas, each checked.

Two expressions are compared where they differ in form by their values at points of unrelated primes: exactly where
these are rational, to thirty digits elsewhere. A step that does not close raises InternalError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sympy

from estimator.errors import InternalError
from estimator.formula import Formula
from estimator.formulas import workings, workings_peft
from estimator.printing import Names, Written
from estimator.put_in import put_in
from estimator.records import NamedTuple, dataclass
from estimator.render.streams import escaped
from estimator.report import Node
from estimator.tidying import sympified, tidy
from estimator.trace import Traced
from estimator.working import WORKINGS, Form, Item, Step, plus

_READ = (workings, workings_peft)  # they fill WORKINGS

_FLOATS = 12  # digits that sums of doubles in another order share
_PRIMES = (101, 211, 307, 401, 503, 601, 701, 809, 907, 1009, 1103, 1201, 1301, 1409, 1511, 1601, 1709, 1801, 1901)
_DIGITS = 30
_NAMED = 6  # parts of a sum that are named; more are counted
_LONG = 80  # operations of an expression whose parts are named, not printed again


@dataclass(frozen=True, slots=True)
class Counted:
    """Things counted alike, as printed: their names, each part's name and shape, how many, what they come to."""

    names: tuple[str, ...]
    parts: tuple[tuple[str, tuple[Written, ...]], ...]
    many: Written
    each: Written
    term: Written


@dataclass(frozen=True, slots=True)
class WorkingLine:
    """One step as printed. ``chained`` lines equal the quantity; the others name something (``left``) used later."""

    rule: str
    written: Written | None = None
    items: tuple[Counted, ...] = ()
    left: str = ""
    chained: bool = True
    given: tuple[tuple[str, Written], ...] = ()


class Worked(NamedTuple):
    """A number's working.

    lines   up to its expression in letters
    brief   the same as a page shows it: other quantities of the report by their names, not worked out again
    put     what such a line comes to with their values; None where it names none
    """

    lines: tuple[WorkingLine, ...]
    brief: tuple[WorkingLine, ...]
    put: Any = None

    @property
    def bare(self) -> bool:
        """Whether there is an expression and nothing that leads to it."""
        return not any(line.rule or line.items or line.given for line in self.lines)


def working_of(node: Node, written: Written, known: Mapping[Any, tuple[str, Any]] | None) -> Worked:
    """The lines that lead to a node's tidied expression.

    known: other quantities, expression or identity -> (name, value); None in a report whose numbers are letters.
    """
    lines, last = _lines(node, written)
    if last is None or last.items or known is None:
        return Worked(lines, lines)
    at = next(i for i, line in reversed(list(enumerate(lines))) if line.rule == escaped(last.rule) and line.chained)
    by_name = Written(_swapped(last.form, node.value.expr, {e: name for e, (name, _) in known.items()}), written.names)
    if by_name.form is last.form and (not isinstance(last.form, Form) or len(by_name.text) >= len(written.text)):
        return Worked(lines, lines)
    brief = (*lines[:at], replace(lines[at], written=by_name))
    return Worked(lines, brief, _swapped(last.form, node.value.expr, {e: value for e, (_, value) in known.items()}))


def _swapped(form: Any, own: Any, by: Mapping[Any, Any]) -> Any:
    """A form whose quantities that ``by`` knows, one of them or all of an expression, stand as it says; itself where
    there are none."""
    if isinstance(form, Form):
        args = tuple(_swapped(a, own, by) for a in form.args)
        return form if all(a is b for a, b in zip(args, form.args, strict=True)) else form._replace(args=args)
    if isinstance(form, Traced) and form.expr != own:
        return by.get(id(form), by.get(form.expr, form))
    return form


def _lines(node: Node, written: Written) -> tuple[tuple[WorkingLine, ...], Step | None]:
    """The lines that lead to a node's tidied expression, and the last step that equals it."""
    names, expr = written.names, written.form
    steps = node.working() if node.working else _automatic(node, expr)
    lines: list[WorkingLine] = []
    last: Any = None
    for step in steps:
        if step.form is not None and step.chained:
            _check(node.key, step.form, expr)
            last = step
        elif expr.is_Symbol and step.left == expr.name and step.items and sympified(step.form) != node.value.value:
            raise InternalError(f"{node.key}: what is counted is not {node.value.value}")
        made = None if step.form is None else Written(step.form, names)
        items = tuple(_counted(i, names) for i in step.items)
        given = tuple((name, Written(value, names)) for name, value in step.given)
        lines.append(WorkingLine(escaped(step.rule), made, items, step.left, step.chained, given))
    shown = [line for line in lines if line.written and line.chained]
    if lines and not shown and expr.is_Symbol:  # its number follows
        return tuple(lines), last
    if shown and _tokens(shown[-1].written) == _tokens(written):  # the same factors in another order
        lines[lines.index(shown[-1])] = replace(shown[-1], written=written)
    else:
        lines.append(WorkingLine(_how(last.form if last else None, expr), written))
    return tuple(lines), last


def _tokens(written: Written | None) -> list[str]:
    return sorted(re.findall(r"\w+|\S", written.text)) if written else []


def _how(form: Any, expr: Any) -> str:
    """What leads from the last form to the tidied expression."""
    if form is None:
        return ""
    if isinstance(form, Form) and form.op == "/":
        return "simplified"
    total = isinstance(form, Form) and any(isinstance(f, Form) and f.op in ("+", "-") for f in (form, *form.args))
    if total:
        return "the common factor taken out" if expr.is_Mul else "added up"
    if not isinstance(form, Form) and sympified(form).is_Add:
        return "the common factor taken out"
    return "multiplied out"


def _counted(item: Item, names: Names) -> Counted:
    parts = tuple((name, tuple(Written(x, names) for x in shape)) for name, shape in item.parts)
    many = Written(sympy.Integer(len(item.names)) * sympified(item.many), names)
    return Counted(item.names, parts, many, Written(item.each, names), Written(item.term, names))


def _automatic(node: Node, expr: Any) -> Sequence[Step]:
    """Steps that follow from how a node was made: by a formula, as a sum, as the largest."""
    made = node.value.made
    if made is not None and node.formula is not None and node.formula is made[0]:
        own = WORKINGS.get(node.formula.name)
        return own(*made[1]) if own else _of_formula(*made)
    children = [c for c in node.children if c.value is not None]
    if node.how == "sum" and children:
        few = len(children) <= _NAMED
        rule = "the sum of: " + ", ".join(c.label for c in children) if few else f"the sum of its {len(children)} parts"
        form = plus(*(c.value for c in children)) if expr.count_ops() <= _LONG else expr
        return [Step(rule, form)]
    if node.how == "max" and children:
        largest = next(c for c in children if c.value == node.value)
        return [Step(f"the largest, which is: {largest.label}", expr)]
    return [Step(rule_of(node.formula), expr)] if node.formula else []


def _of_formula(made: Formula, args: tuple[Any, ...]) -> Sequence[Step]:
    """The formula in its own letters, then what they are here."""
    own = [sympy.Symbol(p, positive=True) for p in made.params[: len(args)]]
    try:
        general = sympified(made.fn(*own))
    except TypeError:  # it compares sizes, which letters have no order for
        return [Step(rule_of(made))]
    here = [sympified(a) for a in args]
    given = tuple((str(p), tidy(v)) for p, v in zip(own, here, strict=True) if str(p) != str(v))
    if not given or any(v.count_ops() > _LONG // 2 for _, v in given):
        return [Step(rule_of(made))]
    return [Step(rule_of(made), general, (), made.name, False), Step("with", given=given)]


def rule_of(made: Formula) -> str:
    """What a formula says, as a rule."""
    return made.summary.removesuffix(".")


def _check(key: str, form: Any, expr: Any) -> None:
    """InternalError unless a step equals the quantity's expression."""
    got = sympified(form)
    if got != expr and not equal(got, expr):
        raise InternalError(f"{key}: a step of the working, {got}, does not equal {expr}")


def equal(a: Any, b: Any) -> bool:
    """Whether two expressions agree at two points of unrelated primes."""
    letters = sorted(a.free_symbols | b.free_symbols, key=str)
    for start in (0, 7):
        values = [sympy.Integer(_PRIMES[(start + i) % len(_PRIMES)]) for i in range(len(letters))]
        if start:
            values = [1 / v if not s.is_integer else v for s, v in zip(letters, values, strict=True)]
        if not _agree(a, b, dict(zip(letters, values, strict=True))):
            return False
    return True


def _agree(a: Any, b: Any, point: dict[Any, Any]) -> bool:
    """Whether two expressions have the same value at a point: exactly, or as far as floats go."""
    quick = put_in(a, point), put_in(b, point)
    if not any(x is None or isinstance(x, float) for x in quick):
        return quick[0] == quick[1]
    one, other = a.subs(point).doit(), b.subs(point).doit()
    if one.is_Rational and other.is_Rational:
        return bool(one == other)
    x, y = sympy.N(one, _DIGITS), sympy.N(other, _DIGITS)
    digits = _FLOATS if one.has(sympy.Float) or other.has(sympy.Float) else _DIGITS - 10
    return bool(abs(x - y) <= sympy.Float(10) ** -digits * max(abs(x), abs(y)))
