"""Plain text as LaTeX text."""

from __future__ import annotations

import re
from collections.abc import Callable

from estimator.render.streams import escaped

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "\n": " ", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "µ": r"$\mu$", "×": r"$\times$", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "·": r"$\cdot$",
}  # fmt: skip


def escape(text: str) -> str:
    """Plain text as LaTeX text; control characters shown."""
    if not text.isprintable():
        text = "\n".join(map(escaped, text.split("\n")))
    return "".join(_SPECIAL.get(c, c) for c in text).replace("--", "-{}-")


def breakable(text: str) -> str:
    """Plain text as LaTeX text whose paths and names may be broken."""
    made = escape(text)
    for mark in ("/", "\\_", "="):
        made = made.replace(mark, mark + "\\allowbreak{}")
    return made


_LETTER = r"[A-Za-z](?:_[A-Za-z0-9]+|[0-9])?"
# a word of a formula: letters, numbers, operators, brackets, O( ... )
_WORD = re.compile(rf"(?:[-(/=+*^,)]|(?:alpha|beta|gamma|lambda|{_LETTER}|[0-9.]+)(?![A-Za-z]))+")
_POWER = re.compile(r"(?:\*\*|\^)(\((?:[^()]|\([^()]*\))*\)|\\?[A-Za-z]\w*|-?[0-9.]+)")


def with_formulas(text: str, plain: Callable[[str], str] = breakable) -> str:
    """Plain text as LaTeX text, the formulas in it that hold a power (``G (C/C0)**a``, ``O(n^2 d)``) as mathematics.

    plain: how the rest is set; ``escape`` inside ``\\text``, which has no breaks.
    """
    if "**" not in text and "^" not in text:
        return plain(text)
    out: list[str] = []
    run: list[str] = []

    def close(after: str = "") -> None:
        joined = " ".join(run)
        if run:
            out.append((f"${_math(joined)}$" if _POWER.search(joined) else plain(joined)) + plain(after))
        run.clear()

    for word in text.split(" "):
        core = word.rstrip(",;:.")
        if core and _WORD.fullmatch(core):
            run.append(core)
            if core != word:
                close(word[len(core) :])
        else:
            close()
            out.append(plain(word))
    close()
    return " ".join(out)


def _math(text: str) -> str:
    """A formula of letters, powers, brackets and the four operations, as LaTeX."""
    from estimator.styles import latex_name

    def raised(match: re.Match[str]) -> str:
        inner = match.group(1)
        return "^{" + (inner[1:-1] if inner.startswith("(") else inner) + "}"

    made = re.sub(r"[A-Za-z]\w*", lambda m: m.group() if m.group() == "O" else latex_name(m.group()), text)
    return _POWER.sub(raised, made).replace("*", "\\,").replace(" ", "\\,")
