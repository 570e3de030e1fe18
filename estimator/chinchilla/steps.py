"""The compute-optimal frontier derived by SymPy, step by step: the homework's solution, ready to hand in.

SymPy does each step (differentiates the Lagrangian, eliminates the multiplier, solves for log D) and then checks the
outcome: the first derivative vanishes there, the second is positive. A step that does not check raises
InternalError, so nothing wrong is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator.chinchilla.laws import Law, Parametric
from estimator.errors import InternalError
from estimator.formulas import scaling as f
from estimator.records import dataclass
from estimator.render.latex_page import TIGHT
from estimator.report import Text
from estimator.trace import value_of

LETTERS = {
    "A": "amplitude of the parameter term",
    "B": "amplitude of the token term",
    "alpha": "exponent of the parameter term",
    "beta": "exponent of the token term",
    "L0": "irreducible loss, E of Hoffmann et al.",
    "C": "training compute in FLOPs",
    "C0": "FLOPs a parameter and token",
    "N": "parameters",
    "D": "training tokens",
    "N_tr": "parameters trained",
    "D_tr": "tokens trained on",
    "F": "peak FLOP/s of one GPU",
    "mfu": "model FLOPs utilisation",
    "p": "USD a GPU-hour",
    "n": "GPUs",
    "H": "GPU-hours",
    "U": "budget in USD",
    "k_N": "coefficient of the parameters",
    "a": "exponent of the parameters",
    "k_D": "coefficient of the tokens",
    "b": "exponent of the tokens",
    "u": "unit of the compute, FLOPs",
    "k_L": "coefficient of the loss",
    "l": "exponent of the loss",
    "u_L": "unit of the compute in the loss, FLOPs",
}


@dataclass(frozen=True, slots=True)
class Lines:
    """A sentence and the relations (left, right) that follow it."""

    sentence: str
    relations: tuple[tuple[Any, Any], ...]


def symbols() -> dict[str, Any]:
    """The letters of the derivation as positive SymPy symbols."""
    from sympy import Symbol

    return {n: Symbol(n, positive=True) for n in ("N", "D", "C", "C0", "A", "B", "alpha", "beta", "L0", "lambda")}


def derive(s: dict[str, Any]) -> tuple[list[Lines], dict[str, Any]]:
    """The steps, and the closed forms G, a, b, N_opt, D_opt, L_opt that they arrive at."""
    import sympy

    N, D, C, C0, A, B, al, be, L0, lam = (
        s[k] for k in ("N", "D", "C", "C0", "A", "B", "alpha", "beta", "L0", "lambda")
    )
    loss = f.parametric_loss(N, D, L0, A, B, al, be)
    lagrangian = loss + lam * (C0 * N * D - C)
    d_n, d_d = sympy.diff(lagrangian, N), sympy.diff(lagrangian, D)
    # both conditions solved for lambda C0 N D, which must agree
    left = sympy.powsimp(sympy.expand(_root(d_n, lam) * C0 * N * D))
    right = sympy.powsimp(sympy.expand(_root(d_d, lam) * C0 * N * D))
    one = _root(C0 * N * D - C, N)
    x = sympy.Symbol("x")
    gap = sympy.expand_log(sympy.log(left.subs(N, one)) - sympy.log(right), force=True)
    log_d = _root(gap.subs(sympy.log(D), x), x)
    power = be * B / (al * A) * (C / C0) ** al
    _zero("D**(alpha + beta)", sympy.expand_log(sympy.log(power), force=True) - (al + be) * log_d)
    G, a, b = f.scaling_g(A, B, al, be), f.scaling_a(al, be), f.scaling_b(al, be)
    d_opt = f.optimal_tokens(C, C0, A, B, al, be)
    n_opt = f.optimal_params(C, C0, A, B, al, be)
    l_opt = L0 + f.frontier_amplitude(C0, A, B, al, be) * C ** f.frontier_exponent(al, be)
    _zero("D_opt", sympy.expand_log(sympy.log(d_opt), force=True) - log_d)
    _zero("N_opt", sympy.expand_log(sympy.log(n_opt * d_opt * C0 / C), force=True))
    path = loss.subs(N, one)
    slope = sympy.diff(path, D)
    _zero(
        "dL/dD",
        sympy.expand_log(
            sympy.log(-sympy.diff(B / D**be, D).subs(D, d_opt))
            - sympy.log(sympy.diff((A / N**al).subs(N, one), D).subs(D, d_opt)),
            force=True,
        ),
    )
    curvature = be * (al + be) * B / D ** (be + 2)
    at = {D: d_opt}
    _same("second derivative", sympy.diff(slope, D).subs(at), curvature.subs(at))
    _same("L_opt", loss.subs({N: n_opt, D: d_opt}), l_opt)
    g, sa, sb = sympy.Symbol("G", positive=True), sympy.Symbol("a", positive=True), sympy.Symbol("b", positive=True)
    zero, falls = sympy.Integer(0), f.frontier_exponent(al, be)
    steps = [
        Lines("Minimise the loss at a fixed compute budget", (("L", loss), (C, C0 * N * D))),
        Lines("The Lagrangian, and its derivatives set to zero", (("Lambda", lagrangian), (zero, d_n), (zero, d_d))),
        Lines(
            "Solve both for lambda C0 N D: at the optimum another FLOP is worth the same in parameters and in tokens",
            ((left, right),),
        ),
        Lines("Substitute the budget solved for N", ((N, one), (left.subs(N, one), right))),
        Lines("Collect the powers of D", ((D ** (al + be), power),)),
        Lines("Name the constants", (("G", G), ("a", a), ("b", b))),
        Lines(
            "The optimum: D from its power, N from the budget",
            (("N_opt", g * (C / C0) ** sa), ("D_opt", (C / C0) ** sb / g)),
        ),
        Lines("It is a minimum: along the budget the second derivative at D_opt is positive", (("L''", curvature),)),
        Lines("The loss on the frontier", (("L_opt", L0 + (A / g**al + B * g**be) * (C / C0) ** falls),)),
    ]  # fmt: skip
    return steps, {"G": G, "a": a, "b": b, "N_opt": n_opt, "D_opt": d_opt, "L_opt": l_opt}


ORDER = ("L0", "G", "lambda", "alpha", "beta", "A", "B", "C0", "N", "D", "C")


def printer(leaf: Callable[[str], str], style: str) -> Any:
    """The house's printer with the order of the scaling-law literature: L0 + A/N**alpha, alpha A, G (C/C0)**a."""
    from estimator.printing import Printer

    def rank(e: Any) -> list[tuple[int, str]]:
        found = sorted((ORDER.index(s.name) if s.name in ORDER else len(ORDER), s.name) for s in e.free_symbols)
        return [*found, (len(ORDER), str(e))]

    class Ordered(Printer):
        def terms(self, e: Any) -> list[Any]:
            terms = sorted(e.args, key=rank)
            terms.sort(key=lambda t: bool(t.could_extract_minus_sign()))
            return terms

        def factors(self, e: Any) -> list[Any]:
            return sorted(e.args if e.is_Mul else (e,), key=lambda f: (not f.is_number, rank(f)))

    return Ordered(leaf, style)


def _root(line: Any, x: Any) -> Any:
    """Where an expression that is linear in ``x`` is zero; solve() looks for much more, and takes as much longer."""
    return -line.subs(x, 0) / line.diff(x)


def _zero(what: str, expr: Any) -> None:
    import sympy

    _same(what, sympy.expand_log(expr, force=True), sympy.Integer(0))


def _same(what: str, one: Any, other: Any) -> None:
    """Compares two forms at a point of algebraically independent values to 30 digits: simplify is slow on these."""
    import sympy

    point = {
        n: sympy.Rational(p, 7)
        for n, p in zip(
            sorted(one.free_symbols | other.free_symbols, key=str), (11, 13, 17, 19, 23, 29, 31, 37), strict=False
        )
    }
    if abs(sympy.N((one - other).subs(point), 30)) > 1e-20:
        raise InternalError(f"the derivation of {what} does not close")


def text(law: Law, symbol_names: str | None = None) -> Text:
    """The derivation as a Text: readable lines, and LaTeX (amsmath) for a homework."""
    from estimator.derive import parse_renames
    from estimator.printing import Names

    names = Names(parse_renames(symbol_names))
    steps, _ = derive(symbols())
    plain, tex = printer(names.text, "text"), printer(names.latex, "latex")
    body: list[str] = []
    latex: list[str] = []
    data: list[dict[str, Any]] = []
    for i, step in enumerate(steps, 1):
        body.append(f"  {i}. {step.sentence}:")
        body += [f"       {_side(left, plain)} = {plain(right)}" for left, right in step.relations]
        latex.append(_said(i, _tex_sentence(step.sentence), [(_tex_side(a, tex), tex(b)) for a, b in step.relations]))
        relations = [(_side(left, plain), plain(right), tex(right)) for left, right in step.relations]
        data.append({"rule": step.sentence, "relations": _relations(relations)})
    if law.parametric:
        body.append(f"  {len(steps) + 1}. With the numbers of {law.label}:")
        given, found = numbers(law.parametric, law.C0)
        body += ["       " + ", ".join(f"{k} = {v:.6g}" for k, v in given.items())]
        body += [f"       {k} = {v}" for k, v, _ in found]
        numbered = f"With the numbers of {law.label.replace('_', ' ')}"
        latex.append(_said(len(steps) + 1, numbered, [(_tex_side(k, tex), made) for k, _, made in found]))
        data.append({"rule": f"With the numbers of {law.label}", "given": given, "relations": _relations(found)})
    page = "\n".join([TIGHT, *latex, "\\endgroup"])
    return Text("Derivation, worked by SymPy", "\n".join(body), page, tuple(data))


def _said(number: int, sentence: str, relations: list[tuple[str, str]]) -> str:
    """A step of the page: its sentence and its equations, beside one another."""
    equations = ", \\quad ".join(f"${left} = {right}$" for left, right in relations)
    return f"\\smallskip\\noindent {number}. {sentence}: {{\\everymath{{\\displaystyle}}{equations}.\\par}}"


def _relations(rows: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
    """(left, text, LaTeX) of equations as plain data."""
    return [{"left": left, "expression": made, "latex": tex} for left, made, tex in rows]


def numbers(p: Parametric, c0: Any) -> tuple[dict[str, float], list[tuple[str, str, str]]]:
    """The coefficients put in, and the frontier's numbers as (name, text, LaTeX)."""
    A, B, al, be = (float(value_of(v)) for v in p.shape)
    e, c0 = float(value_of(p.E)), float(value_of(c0))
    g, a, b = f.scaling_g(A, B, al, be), f.scaling_a(al, be), f.scaling_b(al, be)
    kn, kd = g * c0**-a, c0**-b / g
    kl, x = f.frontier_amplitude(c0, A, B, al, be), f.frontier_exponent(al, be)
    given = {"alpha": al, "beta": be, "A": A, "B": B, "L0": e, "C0": c0}
    found = [(k, f"{v:.4g}", f"{v:.4g}") for k, v in (("G", g), ("a", a), ("b", b))]
    for key, k, x_ in (("N_opt", kn, a), ("D_opt", kd, b)):
        found.append((key, f"{k:.4g} C**{x_:.4g}", f"{k:.4g}\\,C^{{{x_:.4g}}}"))
    found.append(("L_opt", f"{kl:.4g} C**{x:.4g} + {e:.4g}", f"{kl:.4g}\\,C^{{{x:.4g}}} + {e:.4g}"))
    return given, found


_TEX = {
    "L": "L(N, D)",
    "Lambda": "\\mathcal{L}",
    "N_opt": "N_{\\mathrm{opt}}(C)",
    "D_opt": "D_{\\mathrm{opt}}(C)",
    "L_opt": "L_{\\mathrm{opt}}(C)",
    "L''": "\\frac{d^2 L}{d D^2}",
    "G": "G",
    "a": "a",
    "b": "b",
}
_PLAIN = {
    "L": "L(N, D)",
    "Lambda": "Lambda",
    "N_opt": "N_opt(C)",
    "D_opt": "D_opt(C)",
    "L_opt": "L_opt(C)",
    "L''": "L''(D)",
}


def _side(left: Any, plain: Any) -> str:
    return _PLAIN.get(left, left) if isinstance(left, str) else str(plain(left))


def _tex_side(left: Any, tex: Any) -> str:
    return _TEX[left] if isinstance(left, str) else str(tex(left))


_MATH = ("lambda C0 N D", "D_opt", "for N", "of D", "D from", "N from")
_AS_TEX = ("$\\lambda C_0 N D$", "$D_{\\mathrm{opt}}$", "for $N$", "of $D$", "$D$ from", "$N$ from")


def _tex_sentence(sentence: str) -> str:
    for words, tex in zip(_MATH, _AS_TEX, strict=True):
        sentence = sentence.replace(words, tex)
    return sentence
