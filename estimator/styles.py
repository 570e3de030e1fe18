"""How operations are set: as plain text that SymPy reads, as LaTeX, as MathML."""

from __future__ import annotations

_FUNCTIONS = ("log", "exp", "max", "min", "sin", "cos")


class Style:
    """How operations are set: plain text that SymPy reads."""

    plus, minus, comma = " + ", " - ", ", "

    def __init__(self, numeric: bool) -> None:
        self.times = "*"

    def wrap(self, a: str) -> str:
        return f"({a})"

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

    def __init__(self, numeric: bool) -> None:
        self.times = " \\cdot " if numeric else "\\,"

    def wrap(self, a: str) -> str:
        return f"\\left({a}\\right)"

    def rational(self, p: int, q: int) -> str:
        return f"\\frac{{{p}}}{{{q}}}"

    def fraction(self, a: str, b: str) -> str:
        return f"\\frac{{{a}}}{{{b}}}"

    def power(self, base: str, exponent: str, bare: bool) -> str:
        return f"{base}^{{{exponent}}}"

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

    def __init__(self, numeric: bool) -> None:
        self.times = "<mo>&#183;</mo>" if numeric else "<mspace width='0.17em'></mspace>"

    def wrap(self, a: str) -> str:
        return f"<mrow><mo>(</mo>{a}<mo>)</mo></mrow>"

    def negative(self, a: str) -> str:
        return f"{self.minus}{a}"

    def number(self, text: str) -> str:
        return f"<mn>{text}</mn>"

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


_GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "lambda", "mu", "nu", "rho", "sigma", "tau",
          "phi", "omega")  # fmt: skip


def _parts(name: str) -> tuple[str, str]:
    """``N_layer`` as (N, layer), ``C0`` as (C, 0)."""
    head, _, tail = name.partition("_")
    return (head[0], head[1]) if len(head) == 2 and head[1].isdigit() and not tail else (head, tail.replace("_", ","))


def latex_name(name: str) -> str:
    """``N_layer`` as ``N_{\\mathrm{layer}}``, ``C0`` as ``C_{0}``."""
    head, tail = _parts(name)
    if head.lower() in _GREEK:
        head = "\\" + head
    elif len(head) > 1:
        head = f"\\mathrm{{{head}}}"
    if len(tail) > 1:
        tail = f"\\mathrm{{{tail}}}"
    return f"{head}_{{{tail}}}" if tail else head


def mathml_name(name: str) -> str:
    """``N_layer`` as a letter with its subscript."""
    head, tail = _parts(name)
    mark = f"<mi>&{head};</mi>" if head.lower() in _GREEK else f"<mi>{head}</mi>"
    return f"<msub>{mark}<mi mathvariant='normal'>{tail}</mi></msub>" if tail else mark
