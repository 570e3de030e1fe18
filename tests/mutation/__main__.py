"""Changes the program one operator, comparison or number at a time and counts the changes that no test notices.

``python -m tests.mutation`` (``make mutate``); ``--sample N`` takes N of each part, drawn by ``--seed``. A mutant
is run in a child that imports the program with one changed file and then runs the part's tests until one fails.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS = 240  # a mutant that does not end has died


class Part(NamedTuple):
    """What is changed, and the tests that must notice, quick ones first."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = (
    Part(
        "estimator/formulas", tuple(sorted(
            str(p.relative_to(ROOT)) for p in (ROOT / "estimator/formulas").glob("*.py") if p.name != "__init__.py"
        )),
        ("tests/memory/test_closed_forms.py", "tests/docs/test_generated.py", "tests/exact/test_compress.py",
         "tests/exact/test_decode.py", "tests/exact/test_homework.py", "tests/golden", "tests/core/test_derive.py",
         "tests/kvcache", "tests/storage/test_storage.py", "tests/chinchilla", "tests/infer",
         "tests/engines/test_llamacpp_sizes.py", "tests/properties/test_peft_properties.py",
         "tests/properties/test_zero.py", "tests/exact/test_zero.py", "tests/accuracy/test_published_compute.py"),
    ),
    Part(
        "byte-counting folds", ("estimator/stack/replay.py", "estimator/kv/layers.py", "estimator/moments/run.py",
                                "estimator/moments/standing.py", "estimator/moments/outcome.py"),
        ("tests/kvcache", "tests/golden", "tests/memory/test_memory.py", "tests/accuracy/test_gpu_memory.py",
         "tests/properties/test_agreement.py", "tests/accuracy/test_gpu_sharded.py"),
    ),
)  # fmt: skip
COMPARED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
REPLACED: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Mod: ast.Add, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def _inside(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module that are run: no annotations, no texts, no decorators."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(tree, ast.FunctionDef) and (child in tree.decorator_list or child is tree.returns):
            continue
        if isinstance(tree, ast.AnnAssign | ast.arg) and child is tree.annotation:
            continue
        yield child
        yield from _inside(child)


def mutants(source: str) -> Iterator[tuple[int, str, ast.Module]]:
    """(line, what was changed, the changed module) of every change."""
    tree = ast.parse(source)
    for number, node in enumerate(_inside(tree)):
        for what, change in _changes(node):
            made = copy.deepcopy(tree)
            change(list(_inside(made))[number])
            yield getattr(node, "lineno", 0), what, ast.fix_missing_locations(made)


def _changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    def put(name: str, value: Any, at: int | None = None) -> Any:
        def change(there: Any) -> None:
            if at is None:
                setattr(there, name, value)
            else:
                getattr(there, name)[at] = value

        return change

    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in REPLACED:
        new = REPLACED[type(node.op)]
        yield f"{type(node.op).__name__} -> {new.__name__}", put("op", new())
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in COMPARED:
                yield f"{type(op).__name__} -> {COMPARED[type(op)].__name__}", put("ops", COMPARED[type(op)](), i)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        yield f"{node.value} -> {node.value + 1}", put("value", node.value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", put("op", ast.UAdd())


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """The changed module's, None for any other."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name, self.path, loader=self,  # type: ignore[arg-type]
            submodule_search_locations=[str(self.path.parent)] if self.path.name == "__init__.py" else None,
        )  # fmt: skip

    def exec_module(self, module: Any) -> None:
        """Run the changed tree."""
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def dies(part: Part, file: str, tree: ast.Module) -> bool:
    """Whether a test of the part fails, or does not end, on a changed file."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(SECONDS)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            name = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            sys.meta_path.insert(0, _Changed(name, ROOT / file, tree))
            import pytest

            code = int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *part.tests]))
        finally:
            os._exit(1 if code else 0)
    return os.waitpid(pid, 0)[1] != 0


def main() -> int:
    """Exit code 1 where fewer than 95% of a part's mutants die."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=[p.name for p in PARTS])
    parser.add_argument("--sample", type=int, help="mutants of each part (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path)
    asked = parser.parse_args()
    os.chdir(ROOT)
    enough = True
    for part in PARTS:
        if asked.part not in (None, part.name):
            continue
        every = [(file, *found) for file in part.files for found in mutants((ROOT / file).read_text())]
        some = every if asked.sample is None else Random(asked.seed).sample(every, min(asked.sample, len(every)))
        died = 0
        for file, line, what, tree in some:
            if dies(part, file, tree):
                died += 1
            else:
                print(f"survived: {file}:{line}: {what}", flush=True)
        print(f"{part.name}: {died} of {len(some)} died ({len(every)} in all)", flush=True)
        enough = enough and died >= 0.95 * len(some)
        if asked.record:
            data: dict[str, Any] = json.loads(asked.record.read_text()) if asked.record.exists() else {}
            data.setdefault("mutants", []).append(
                {"part": part.name, "in_all": len(every), "mutants": len(some), "died": died, "seed": asked.seed}
            )
            asked.record.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
