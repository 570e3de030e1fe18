"""The structure that the design promises: no import circle, no public class defined twice."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(p.read_text())
    for p in (ROOT / "estimator").rglob("*.py")
}


def imports(name: str) -> set[str]:
    """What a file imports when it runs, at its top or in a function; names for the type checker alone do not count."""
    tree = FILES[name]
    typing = {
        id(x) for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
        for b in n.body for x in ast.walk(b)
    }  # fmt: skip
    found = set()
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and n.module and id(n) not in typing:
            found |= {full if (full := f"{n.module}.{a.name}") in FILES else n.module for a in n.names}
    return {x for x in found if x in FILES} - {name}


def test_no_import_circle():
    left = {name: imports(name) for name in FILES}
    while ready := [name for name, wants in left.items() if not wants & left.keys()]:
        for name in ready:
            del left[name]
    assert not left, f"these import each other, or something that does: {sorted(left)}"


def test_a_public_class_has_one_home():
    names = Counter(
        n.name for tree in FILES.values() for n in tree.body if isinstance(n, ast.ClassDef) and n.name[0] != "_"
    )
    assert [name for name, count in names.items() if count > 1] == []
