"""The structure that the design promises: no import circle, no public class defined twice."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.registry.trees import trees


@pytest.fixture(scope="module")
def files():
    """Every module's tree by its name."""
    return {
        f"estimator.{at.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__"): tree
        for at, tree in trees().items()
    }


def imports(name: str, files: dict[str, ast.Module]) -> set[str]:
    """What a file imports when it runs, at its top or in a function; names for the type checker alone do not count."""
    tree = files[name]
    typing = {
        id(x) for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
        for b in n.body for x in ast.walk(b)
    }  # fmt: skip
    found = set()
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and n.module and id(n) not in typing:
            found |= {full if (full := f"{n.module}.{a.name}") in files else n.module for a in n.names}
    return {x for x in found if x in files} - {name}


def test_no_import_circle(files):
    left = {name: imports(name, files) for name in files}
    while ready := [name for name, wants in left.items() if not wants & left.keys()]:
        for name in ready:
            del left[name]
    assert not left, f"these import each other, or something that does: {sorted(left)}"


def test_a_public_class_has_one_home(files):
    names = Counter(
        n.name for tree in files.values() for n in tree.body if isinstance(n, ast.ClassDef) and n.name[0] != "_"
    )
    assert [name for name, count in names.items() if count > 1] == []
