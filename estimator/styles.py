"""How operations are set: as plain text that SymPy reads, as LaTeX, as MathML."""

from __future__ import annotations

import re

_FUNCTIONS = ("log", "exp", "max", "min", "sin", "cos")


class Style:
    """How operations are set: plain text that SymPy reads."""

    plus, minus, comma, cross = " + ", " - ", ", ", "*"

    def __init__(self, numeric: bool) -> None:
        self.numeric, self.times = numeric, "*"

    def wrap(self, a: str) -> str:
        return f"({a})"

    def product(self, factors: list[str], named: bool = False) -> str:
        """Factors beside one another; a cross before words and where two numbers would read as one."""
        out = factors[0]
        for f in factors[1:]:
            out += (self.cross if named or (self.leads(f) and not self.numeric) else self.times) + f
        return out

    def leads(self, factor: str) -> bool:
        """Whether a factor begins with a digit."""
        return factor[:1].isdigit()

    def negative(self, a: str) -> str:
        return f"-{a}"

    def number(self, text: str) -> str:
        return text

    def rational(self, p: int, q: int) -> str:
        return f"{p}/{q}"

    def power(self, base: str, exponent: str, bare: bool) -> str:
        return f"{base}**{exponent if bare else self.wrap(exponent)}"

    def call(self, name: str, args: list[str]) -> str:
        return f"{name}({self.comma.join(args)})"

    def series(self, body: str, index: str, low: str, high: str) -> str:
        return f"Sum({body}, ({index}, {low}, {high}))"


class LatexStyle(Style):
    """LaTeX mathematics."""

    cross = " \\times "

    def __init__(self, numeric: bool) -> None:
        super().__init__(numeric)
        self.times = " \\cdot " if numeric else "\\,"

    def wrap(self, a: str) -> str:
        return f"\\left({a}\\right)"

    def number(self, text: str) -> str:
        return latex_digits(text)

    def rational(self, p: int, q: int) -> str:
        return f"\\frac{{{latex_digits(str(p))}}}{{{latex_digits(str(q))}}}"

    def fraction(self, a: str, b: str) -> str:
        return f"\\frac{{{a}}}{{{b}}}"

    def power(self, base: str, exponent: str, bare: bool) -> str:
        bracketed = "10^" in base and not base.startswith("\\left(")  # a power of a power
        return f"{self.wrap(base) if bracketed else base}^{{{exponent}}}"

    def call(self, name: str, args: list[str]) -> str:
        if name in ("ceiling", "floor"):
            side = "ceil" if name == "ceiling" else "floor"
            return f"\\left\\l{side} {args[0]} \\right\\r{side}"
        head = f"\\{name.lower()}" if name.lower() in _FUNCTIONS else f"\\operatorname{{{name}}}"
        return f"{head}\\left({self.comma.join(args)}\\right)"

    def series(self, body: str, index: str, low: str, high: str) -> str:
        return f"\\sum_{{{index} = {low}}}^{{{high}}} {body}"


class MathmlStyle(Style):
    """MathML, as browsers set it."""

    plus, minus, comma = "<mo>+</mo>", "<mo>&#8722;</mo>", "<mo>,</mo>"
    cross = "<mo>&#215;</mo>"

    def leads(self, factor: str) -> bool:
        return factor.startswith("<mn>")

    def __init__(self, numeric: bool) -> None:
        super().__init__(numeric)
        self.times = "<mo>&#183;</mo>" if numeric else "<mspace width='0.17em'></mspace>"

    def wrap(self, a: str) -> str:
        return f"<mrow><mo>(</mo>{a}<mo>)</mo></mrow>"

    def negative(self, a: str) -> str:
        return f"{self.minus}{a}"

    def number(self, text: str) -> str:
        return f"<mn>{grouped(text)}</mn>"

    def rational(self, p: int, q: int) -> str:
        return self.fraction(self.number(str(p)), self.number(str(q)))

    def fraction(self, a: str, b: str) -> str:
        return f"<mfrac><mrow>{a}</mrow><mrow>{b}</mrow></mfrac>"

    def power(self, base: str, exponent: str, bare: bool) -> str:
        return f"<msup><mrow>{base}</mrow><mrow>{exponent}</mrow></msup>"

    def call(self, name: str, args: list[str]) -> str:
        if name in ("ceiling", "floor"):
            left, right = ("&#8968;", "&#8969;") if name == "ceiling" else ("&#8970;", "&#8971;")
            return f"<mrow><mo>{left}</mo>{args[0]}<mo>{right}</mo></mrow>"
        return f"<mrow><mi>{name.lower()}</mi><mo>(</mo>{self.comma.join(args)}<mo>)</mo></mrow>"

    def series(self, body: str, index: str, low: str, high: str) -> str:
        below = f"<mrow>{index}<mo>=</mo>{low}</mrow>"
        return f"<mrow><munderover><mo>&#8721;</mo>{below}<mrow>{high}</mrow></munderover>{body}</mrow>"


STYLES: dict[str, type[Style]] = {"text": Style, "latex": LatexStyle, "mathml": MathmlStyle}


def grouped(text: str) -> str:
    """A whole number of more than four digits with commas."""
    return f"{int(text):,}" if text.lstrip("-").isdigit() and len(text) > 4 else text


def latex_digits(text: str) -> str:
    """A number as LaTeX: digits in groups, powers of ten written out: ``1{,}000{,}000``, ``2.5 \\cdot 10^{21}``."""
    number, _, exponent = text.partition("e")
    if not exponent and text.isdigit() and len(text) - len(text.rstrip("0")) >= TEN:
        number, exponent = text.rstrip("0"), str(len(text) - len(text.rstrip("0")))
    if not exponent:
        return grouped(text).replace(",", "{,}")
    power = f"10^{{{int(exponent)}}}"
    return power if number == "1" else f"{number} \\cdot {power}"


_SPECIAL = re.compile(r"([&%$#_{}])")
TEN = 9  # zeros at the end of a whole number from which it is written as a power of ten
_GREEK = re.compile(r"(alpha|beta|gamma|delta|epsilon|eta|theta|lambda|mu|nu|rho|sigma|tau|phi|omega)$")


def _parts(name: str) -> tuple[str, str]:
    """``N_layer`` as (N, layer), ``C0`` as (C, 0)."""
    head, _, tail = name.partition("_")
    return (head[0], head[1]) if len(head) == 2 and head[1].isdigit() and not tail else (head, tail.replace("_", ","))


def latex_name(name: str) -> str:
    """``N_layer`` as ``N_{\\mathrm{layer}}``, ``C0`` as ``C_{0}``; a quantity's label in brackets as words."""
    if name.startswith("["):
        made = _SPECIAL.sub(r"\\\1", name[1:-1]).replace("^", "\\textasciicircum{}")
        return f"\\textit{{{made}}}"
    head, tail = _parts(name)
    if _GREEK.match(head.lower()):
        head = "\\" + head
    elif len(head) > 1:
        head = f"\\mathrm{{{head}}}"
    if len(tail) > 1:
        tail = f"\\mathrm{{{tail}}}"
    return f"{head}_{{{tail}}}" if tail else head


def mathml_name(name: str) -> str:
    """``N_layer`` as a letter with its subscript; a quantity's label in brackets as words."""
    if name.startswith("["):
        from html import escape

        return f"<mtext style='font-style:italic'>{escape(name[1:-1])}</mtext>"
    head, tail = _parts(name)
    mark = f"<mi>&{head};</mi>" if _GREEK.match(head.lower()) else f"<mi>{head}</mi>"
    return f"<msub>{mark}<mi mathvariant='normal'>{tail}</mi></msub>" if tail else mark
