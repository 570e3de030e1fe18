"""Registries are literal tables of strings: every file is listed, every entry resolves, nothing is listed twice."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest

from estimator.cli import COMMANDS
from estimator.families import FAMILIES
from estimator.formula import FORMULAS, Formula
from estimator.formulas import MODULES
from estimator.symbols import BY_NAME, SYMBOLS
from tests.registry.trees import ROOT, trees


def stems(folder: str) -> set[str]:
    return {p.stem for p in (ROOT / folder).glob("*.py")} - {"__init__"}


def test_every_command_has_a_folder():
    assert {module for module, _ in COMMANDS.values()} == {p.parent.name for p in (ROOT / "commands").glob("*/cli.py")}
    for module, line in COMMANDS.values():
        assert import_module(f"estimator.commands.{module}.cli").app
        assert line.endswith(".")


def test_every_family_is_listed():
    shared = {s for s in stems("families") if s.startswith("common")}
    shared |= {"base", "feeds", "mixers", "parts", "classes", "gguf", "towers", "plans", "recorded", "mobilenetv5"}
    assert set(FAMILIES.values()) == stems("families") - shared
    for module in set(FAMILIES.values()):
        assert callable(import_module(f"estimator.families.{module}").build)


def test_every_formula_module_is_listed():
    holding = {s for s in stems("formulas") if "@formula(" in (ROOT / "formulas" / f"{s}.py").read_text()}
    assert set(MODULES) == holding
    assert len(MODULES) == len(set(MODULES))
    for module in MODULES:
        import_module(f"estimator.formulas.{module}")


def test_formulas_cite_and_explain():
    for module in MODULES:
        import_module(f"estimator.formulas.{module}")
    assert FORMULAS
    for name, f in FORMULAS.items():
        assert isinstance(f, Formula)
        assert f.summary.endswith("."), name
        assert len(f.cite.text) > 10, name
        assert not {p for p in f.params if p.startswith("_")}, name


def test_letters_are_unique():
    assert len(BY_NAME) == len(SYMBOLS) == len({s.field for s in SYMBOLS}) == len({s.latex for s in SYMBOLS})


MODULE_LEVEL_OWNERS = {
    "derive.py", "printing.py", "tidying.py", "steps.py", "solve.py", "render/terminal.py", "chinchilla/fit.py",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py")))
def test_every_module_says_what_it_is(path):
    tree = trees()[path]
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "__import__"}, f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sympify":
            assert path in MODULE_LEVEL_OWNERS, f"{path}:{node.lineno}: sympify on input"
