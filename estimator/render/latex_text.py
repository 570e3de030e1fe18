"""Plain text as LaTeX text."""

from __future__ import annotations

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "\n": " ", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "µ": r"$\mu$", "×": r"$\times$", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "·": r"$\cdot$",
}  # fmt: skip


def escape(text: str) -> str:
    """Plain text as LaTeX text."""
    return "".join(_SPECIAL.get(c, c) for c in text).replace("--", "-{}-")


def breakable(text: str) -> str:
    """Plain text as LaTeX text whose paths and names may be broken."""
    made = escape(text)
    for mark in ("/", "\\_", "="):
        made = made.replace(mark, mark + "\\allowbreak{}")
    return made
