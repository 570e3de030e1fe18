"""Expressions on paper: SymPy's algebra in the order of :mod:`estimator.symbols`, as text, LaTeX or MathML.

SymPy sorts factors alphabetically; here layers come first, then batch, tokens, widths. What is written down and not
yet computed (:class:`estimator.working.Form`) is printed as it stands: ``3*L*(r*d + d*r)``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from estimator.styles import STYLES, latex_name, mathml_name
from estimator.symbols import BY_FIELD, BY_NAME, RANK
from estimator.tidying import sympified, tidy
from estimator.trace import field_of
from estimator.working import Form


class Names:
    """How letters are spelled: the registry's way, or the user's after ``--symbols``."""

    def __init__(self, renames: Mapping[str, str] | None = None, letters: Iterable[str] = ()) -> None:
        self.renames = dict(renames or {})
        self.order = RANK | {name: len(RANK) + i for i, name in enumerate(letters)}

    def place(self, name: str) -> int:
        """Where a letter stands in display order; a letter of the user's own stands where its field's letter does."""
        known = BY_FIELD.get(field_of(name))
        return self.order.get(name, self.order[known.name] if known else len(self.order))

    def rank(self, expr: Any) -> tuple[int, str]:
        """Where an expression stands among its neighbours: by its first letter; numbers first."""
        return min(((self.place(s.name), s.name) for s in expr.free_symbols), default=(-1, ""))

    def text(self, name: str) -> str:
        return self.renames.get(name, name)

    def latex(self, name: str) -> str:
        if name in self.renames:
            return latex_name(self.renames[name])
        return BY_NAME[name].latex if name in BY_NAME else latex_name(name)

    def mathml(self, name: str) -> str:
        return mathml_name(self.text(name))

    def leaf(self, style: str) -> Callable[[str], str]:
        """How a style spells a letter."""
        return {"text": self.text, "latex": self.latex, "mathml": self.mathml}[style]


def digits(value: Any) -> str:
    """A number as text: whole, a fraction, or twelve digits."""
    if isinstance(value, sympy.Integer | int):
        return str(int(value))
    if isinstance(value, sympy.Rational):
        return f"{value.p}/{value.q}"
    return f"{float(value):.12g}"


class Printer:
    """Prints an expression in the registry's order. ``leaf`` turns a letter into what stands for it in this style."""

    def __init__(
        self, leaf: Callable[[str], str], style: str = "text", numeric: bool = False, names: Names | None = None
    ) -> None:
        self.leaf, self.style = leaf, STYLES[style](numeric)
        self.rank = (names or Names()).rank

    def __call__(self, expr: Any) -> str:
        """The expression, or a Form as it stands."""
        return self._form(expr)[0] if isinstance(expr, Form) else self._add(sympified(expr))

    def _form(self, f: Any) -> tuple[str, bool]:
        """(the text of what is written down, whether it is a sum)."""
        s = self.style
        if not isinstance(f, Form):
            e = self.leaf_of(f)
            return self._add(e), bool(e.is_Add or (e.is_Rational and not e.is_Integer))
        if f.op == "+":
            made = [self._form(a)[0] for a in f.args]
            return s.plus.join(made), len(made) > 1
        if f.op == "-":
            first, (second, total) = self._form(f.args[0])[0], self._form(f.args[1])
            return s.minus.join((first, s.wrap(second) if total or second.startswith("-") else second)), True
        if f.op == "*":
            named = any(isinstance(a, str) and a.startswith("[") for a in f.args)
            return s.product([self._bound(a) for a in f.args], named), False
        if f.op == "/":
            a, b = (x.args[0] if isinstance(x, Form) and x.op == "()" else x for x in f.args)
            if hasattr(s, "fraction"):
                return s.fraction(self._form(a)[0], self._form(b)[0]), False
            low, total = self._form(b)
            simple = not total and "*" not in low and "/" not in low
            return f"{self._bound(a)}/{low if simple else s.wrap(low)}", False
        if f.op == "**":
            base, exponent = sympified(f.args[0]) if not isinstance(f.args[0], Form) else f.args[0], f.args[1]
            plain = not isinstance(base, Form) and (base.is_Symbol or (base.is_Integer and base > 0))
            inner = self._form(base)[0]
            high = self._form(exponent)[0]
            return s.power(inner if plain else s.wrap(inner), high, high.isalnum()), False
        if f.op == "()":
            return s.wrap(self._form(f.args[0])[0]), False
        if f.op == "Sum":
            body, index, low, high = (self._form(a)[0] for a in f.args)
            return s.series(body, index, low, high), True
        return s.call(f.op, [self._form(a)[0] for a in f.args]), False

    def _bound(self, f: Any) -> str:
        """A factor: in brackets where it is a sum, negative, or a product with a number of its own."""
        made, total = self._form(f)
        if not total and not isinstance(f, Form):
            e = self.leaf_of(f)
            total = bool(e.could_extract_minus_sign() or (e.is_Mul and e.as_coeff_Mul()[0] != 1))
            total = total or (not hasattr(self.style, "fraction") and sympy.fraction(e)[1] != 1)
        elif isinstance(f, Form) and f.op == "/":
            total = not hasattr(self.style, "fraction")
        return self.style.wrap(made) if total else made

    @staticmethod
    def leaf_of(value: Any) -> Any:
        """A number of a Form as it is printed: tidied where it is an expression of its own."""
        e = sympified(value)
        return tidy(e) if e.args else e

    def _add(self, e: Any) -> str:
        if not e.is_Add:
            return self._mul(e)
        terms = self.terms(e)
        out = self._mul(terms[0])
        for t in terms[1:]:
            minus = t.could_extract_minus_sign()
            out += (self.style.minus if minus else self.style.plus) + self._mul(-t if minus else t)
        return out

    def terms(self, e: Any) -> list[Any]:
        """The terms of a sum in the order of their letters; positive ones first where the first would be negative."""
        terms = _sorted(e.args, lambda t: (not t.free_symbols, self.rank(t)))
        terms.sort(key=lambda t: bool(t.could_extract_minus_sign()))
        return terms

    def factors(self, e: Any) -> list[Any]:
        """The factors of a product: numbers, letters in their order, then sums."""
        return _sorted(sympy.Mul.make_args(e), lambda f: (not f.is_number, f.is_Add, self.rank(f)))

    def _mul(self, e: Any) -> str:
        s = self.style
        if e.is_Rational and not e.is_Integer:
            return s.rational(e.p, e.q)
        if e.could_extract_minus_sign() and (e.is_Mul or e.is_Add):
            return s.negative(self._factor(-e) if (-e).is_Add else self._mul(-e))
        if not e.is_Mul:
            return self._pow(e)
        top, bottom = sympy.fraction(e)
        if bottom == 1:
            return self._product(e)  # as it stands: a number times a sum is multiplied out in ``top``
        if hasattr(s, "fraction"):
            made: str = s.fraction(self._add(top), self._add(bottom))
            return made
        low = self._product(bottom)
        return f"{self._product(top)}/{low if not bottom.is_Mul else s.wrap(low)}"

    def _product(self, e: Any) -> str:
        return self.style.product([self._factor(f) for f in self.factors(e)])

    def _factor(self, e: Any) -> str:
        return self.style.wrap(self._add(e)) if e.is_Add else self._pow(e)

    def _pow(self, e: Any) -> str:
        if not e.is_Pow:
            return self._atom(e)
        s = self.style
        base, exponent = e.args
        if exponent.is_Rational and exponent < 0:
            below = base**-exponent if exponent != -1 else base
            made: str = (
                s.fraction(s.number("1"), self._add(below)) if hasattr(s, "fraction") else f"1/{self._factor(below)}"
            )
            return made
        inner = self._atom(base) if base.is_Symbol or (base.is_Integer and base > 0) else s.wrap(self._add(base))
        bare = exponent.is_Symbol or (exponent.is_Integer and exponent >= 0)
        return s.power(inner, self._atom(exponent) if bare else self._add(exponent), bool(bare))

    def _atom(self, e: Any) -> str:
        s = self.style
        if e.is_Symbol:
            leaf = self.leaf(e.name)
            return s.wrap(leaf) if leaf.startswith("-") else leaf
        if e.is_Number:
            return s.number(digits(e))
        if e.is_Add or e.is_Mul or e.is_Pow:
            return s.wrap(self._add(e))
        name = str(e.func) if isinstance(e, AppliedUndef) else e.func.__name__
        return s.call(name, [self._add(a) for a in e.args])


@lru_cache(maxsize=4096)
def _spelt(e: Any) -> str:
    """SymPy's text of an expression, which takes SymPy a while and is asked for again at each printing."""
    return str(e)


def _sorted(parts: Sequence[Any], key: Callable[[Any], Any]) -> list[Any]:
    """Sorted by ``key``, alike ones by their text."""
    keys = [key(p) for p in parts]
    alike = Counter(keys)
    order = sorted(range(len(keys)), key=lambda i: (keys[i], _spelt(parts[i]) if alike[keys[i]] > 1 else ""))
    return [parts[i] for i in order]


class Written:
    """An expression in one report: as text, LaTeX and MathML, in letters or with the numbers put in.

    form      a SymPy expression, or a Form, which is printed as it stands
    numbers   letter -> number to put in, or None for letters
    """

    __slots__ = ("_made", "form", "names", "numbers")

    def __init__(self, form: Any, names: Names, numbers: Mapping[str, Any] | None = None) -> None:
        self.form, self.names, self.numbers = form, names, numbers
        self._made: dict[str, str] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written) and bool(self.form == other.form)

    def __hash__(self) -> int:
        return hash(self.form)

    def _leaf(self, style: str) -> Callable[[str], str]:
        plain = self.names.leaf(style)
        if self.numbers is None:
            return plain
        numbers, wrap = self.numbers, STYLES[style](True).number

        def put(name: str) -> str:
            return wrap(digits(numbers[name])) if name in numbers else plain(name)

        return put

    def in_style(self, style: str) -> str:
        if style not in self._made:
            printer = Printer(self._leaf(style), style, numeric=self.numbers is not None, names=self.names)
            self._made[style] = printer(self.form)
        return self._made[style]

    @property
    def is_sum(self) -> bool:
        """Whether it needs brackets as a factor."""
        return self.form.op in ("+", "-") if isinstance(self.form, Form) else bool(sympified(self.form).is_Add)

    @property
    def text(self) -> str:
        """SymPy-readable text."""
        return self.in_style("text")

    @property
    def latex(self) -> str:
        return self.in_style("latex")

    @property
    def mathml(self) -> str:
        return f"<math>{self.in_style('mathml')}</math>"


def text(expr: Any, names: Names | None = None) -> str:
    """SymPy-readable text of an expression in display order."""
    return Written(tidy(expr), names or Names()).text


def to_latex(expr: Any, names: Names | None = None) -> str:
    """LaTeX of an expression in display order."""
    return Written(tidy(expr), names or Names()).latex
