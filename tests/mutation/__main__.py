"""Changes the program one operator, comparison or number at a time and counts the changes that no test notices.

``python -m tests.mutation`` (``make mutate``); ``--sample N`` takes N of each part, drawn by ``--seed``. The part's
tests are collected once and run once, to see which of them reach which line. A mutant is then run in a forked child
that puts the changed code in the place of the function's own and runs the tests that reach its line, those first that
are quick or have failed of other mutants, until one fails. A change outside functions is made by running the changed
module in the place of its own. Survivors stand in KNOWN with what they change, or are a gap in the tests.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib import import_module
from inspect import CO_OPTIMIZED
from pathlib import Path
from random import Random
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

from estimator.formula import FORMULAS
from estimator.working import WORKINGS
from tests.pool import spread

ROOT = Path(__file__).parents[2]
CACHE = type(lru_cache(int))
SECONDS = 90  # of its own: a mutant that takes longer has died
ALIVE = -1
WAIT = 10  # times as long by the clock, on a machine that does other things too


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
         "tests/exact/test_formula_values.py", "tests/kvcache", "tests/storage", "tests/chinchilla", "tests/infer",
         "tests/engines/test_llamacpp_sizes.py", "tests/properties/test_peft_properties.py",
         "tests/properties/test_zero.py", "tests/exact/test_zero.py", "tests/accuracy/test_published_compute.py"),
    ),
    Part(
        "byte-counting folds", ("estimator/stack/replay.py", "estimator/kv/layers.py", "estimator/moments/run.py",
                                "estimator/moments/standing.py", "estimator/moments/outcome.py"),
        ("tests/memory/test_folds.py", "tests/memory/test_standing.py", "tests/kvcache", "tests/golden",
         "tests/memory/test_repeated.py", "tests/memory/test_segments.py", "tests/memory/test_breakdown.py",
         "tests/memory/test_memory.py", "tests/accuracy/test_gpu_memory.py", "tests/accuracy/test_gpu_sharded.py"),
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


class Mutant(NamedTuple):
    """One change: where it is, what it is, the function that holds it (empty: the module itself)."""

    file: str
    line: int
    what: str
    number: int
    function: str

    @property
    def name(self) -> str:
        """As it is printed, and as KNOWN names it."""
        return f"{self.file}: {self.function or 'module'}: {self.what}"


def module_of(file: str) -> str:
    """The dotted name of a file."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def functions(code: CodeType, prefix: str = "") -> Iterator[tuple[str, CodeType]]:
    """Every function of a module's code but those inside functions, by qualified name."""
    for const in code.co_consts:
        if isinstance(const, CodeType):
            name = f"{prefix}{const.co_name}"
            if const.co_flags & CO_OPTIMIZED:
                yield name, const
            else:  # a class body
                yield from functions(const, f"{name}.")


def all_mutants(part: Part) -> list[Mutant]:
    """Every change of a part."""
    out = []
    for file in part.files:
        source = (ROOT / file).read_text()
        ranges = _ranges(ast.parse(source))
        for number, (line, what, _) in enumerate(mutants(source)):
            inside = [name for name, low, high in ranges if low <= line <= high]
            out.append(Mutant(file, line, what, number, inside[0] if inside else ""))
    return out


def _ranges(tree: ast.AST, prefix: str = "") -> list[tuple[str, int, int]]:
    """(qualified name, first line of the body, last line) of every function but those inside functions."""
    out = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            out.append((f"{prefix}{node.name}", node.body[0].lineno, node.end_lineno or node.lineno))
        elif isinstance(node, ast.ClassDef):
            out += _ranges(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If):
            out += _ranges(node, prefix)
    return out


def held(module: Any) -> dict[str, FunctionType]:
    """The functions of a module as they are held, by qualified name."""
    out: dict[str, FunctionType] = {}

    def look(space: dict[str, Any], prefix: str) -> None:
        for found in list(space.values()):
            found = getattr(found, "__func__", found)
            found = getattr(found, "fget", None) or getattr(found, "fn", None) or getattr(found, "func", None) or found
            found = getattr(found, "__wrapped__", found)
            if isinstance(found, FunctionType) and found.__module__ == module.__name__:
                out[f"{prefix}{found.__name__}"] = found
            elif isinstance(found, type) and found.__module__ == module.__name__:
                look(vars(found), f"{found.__name__}.")

    look(vars(module), "")
    return out


def change(mutant: Mutant) -> None:
    """Make the change in this process."""
    source = (ROOT / mutant.file).read_text()
    tree = next(t for i, (_, _, t) in enumerate(mutants(source)) if i == mutant.number)
    code = compile(tree, str(ROOT / mutant.file), "exec")
    module = import_module(module_of(mutant.file))
    own = held(module).get(mutant.function)
    made = dict(functions(code)).get(mutant.function)
    if own is not None and made is not None and own.__code__.co_freevars == made.co_freevars:
        own.__code__ = made
        return
    before = dict(vars(module))
    for registry in (FORMULAS, WORKINGS):  # which take a name once
        for name in [n for n, f in registry.items() if getattr(f, "fn", f).__module__ == module.__name__]:
            del registry[name]
    exec(code, module.__dict__)
    for other in list(sys.modules.values()):  # whoever imported a name has the old object
        for name, value in list(getattr(other, "__dict__", {}).items()):
            if name in before and value is before[name] and vars(module).get(name) is not value:
                other.__dict__[name] = module.__dict__[name]


def forget() -> None:
    """Empty every cache of the program: what stands there was computed before the change."""
    for cached in gc.get_objects():
        if isinstance(cached, CACHE) and str(getattr(cached, "__module__", "")).startswith("estimator"):
            cached.cache_clear()


class Session:
    """A pytest plugin: what was collected, run in children."""

    def __init__(self, part: Part, some: list[Mutant], jobs: int, minutes: float | None) -> None:
        self.part, self.some, self.jobs = part, some, jobs
        self.end = None if minutes is None else time.monotonic() + minutes * 60
        self.survivors: list[str] = []
        self.died = self.done = 0
        self.reaching: dict[str, list[tuple[float, int]]] = {}  # a line of a file -> (seconds, number) of tests
        self.kills: Counter[int] = Counter()  # mutants of which a test was the first to fail

    def pytest_runtestloop(self, session: Any) -> bool:
        """In the place of running the tests."""
        session.config.option.maxfail = 1
        items = list(enumerate(session.items))
        chunks = iter([items[i :: self.jobs * 4] for i in range(self.jobs * 4)])
        for _, found in spread(self.jobs, chunks, lambda chunk: self.watched(session, chunk), WAIT * 900):
            for index, seconds, reached in found or []:
                for place in reached:
                    self.reaching.setdefault(place, []).append((seconds, index))
        print(f"{len(items)} tests were watched", flush=True)
        each = partial(self.killer, session)
        for mutant, killed in spread(self.jobs, iter(self.some), each, WAIT * SECONDS, self.end):
            self.done += 1
            if self.done % 50 == 0:
                print(f"{self.died} of {self.done} died", flush=True)
            if killed == ALIVE:
                self.survivors.append(mutant.name)
                print(f"survived: {mutant.file}:{mutant.line}: {mutant.function}: {mutant.what}", flush=True)
            else:
                self.died += 1
                self.kills.update([] if killed is None else [killed])
        return True

    def watched(self, session: Any, chunk: list[tuple[int, Any]]) -> list[tuple[int, float, list[str]]]:
        """(index, seconds, lines reached) of each test that passes."""
        names: dict[CodeType, str] = {}
        for file in self.part.files:
            own = [f.__code__ for f in held(import_module(module_of(file))).values()]
            while own:
                code = own.pop()
                names[code] = file
                own += [c for c in code.co_consts if isinstance(c, CodeType)]
        out = []
        for index, item in chunk:
            reached: set[str] = set()

            def line(frame: Any, event: str, _: Any, reached: set[str] = reached) -> Any:
                reached.add(f"{names[frame.f_code]}:{frame.f_lineno}")
                return line

            def call(frame: Any, event: str, _: Any) -> Any:
                return line if frame.f_code in names else None

            start = time.perf_counter()
            sys.settrace(call)
            try:
                good = run_one(session, item)
            finally:
                sys.settrace(None)
            if good:
                out.append((index, time.perf_counter() - start, sorted(reached)))
        return out

    def killer(self, session: Any, mutant: Mutant) -> int:
        """The test that fails first on the changed program, or ALIVE where every test that reaches its line passes."""
        able = self.reaching.get(f"{mutant.file}:{mutant.line}", [])
        if not able:  # of a module, or a line within an expression: any test that reaches the file
            places = [found for place, found in self.reaching.items() if place.startswith(f"{mutant.file}:")]
            able = sorted({test for found in places for test in found})
        change(mutant)
        forget()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the child: not everything that it runs ends
        until = time.process_time() + SECONDS * 0.8
        for _, index in sorted((seconds / (1 + self.kills[i]), i) for seconds, i in able):
            if time.process_time() > until:
                break
            if not run_one(session, session.items[index]):
                return index
        return ALIVE


def run_one(session: Any, item: Any) -> bool:
    """Whether a test passes, run alone, without a word."""
    from _pytest.runner import runtestprotocol

    reports = runtestprotocol(item, log=False, nextitem=None)
    return all(r.passed or r.skipped for r in reports)


# survivors that change nothing: what they come to
KNOWN: dict[str, str] = {
    "estimator/formulas/storage.py: mxfp4_bytes: 32 -> 33": "(33 * 4 + 8) // 8 is (32 * 4 + 8) // 8",
    "estimator/formulas/storage.py: nvfp4_bytes: 16 -> 17": "(17 * 4 + 8) // 8 is (16 * 4 + 8) // 8",
    "estimator/formulas/storage.py: mxfp4_bytes: 8 -> 9": "(128 + 9) // 8 is (128 + 8) // 8",
    "estimator/formulas/storage.py: nvfp4_bytes: 8 -> 9": "(64 + 9) // 8 is (64 + 8) // 8",
    "estimator/formulas/storage.py: mlx_bytes: Mult -> Add": "2 * FP16 is 2 + FP16",
    "estimator/formulas/storage.py: hqq_bytes: Mult -> Add": "2 * FP16 is 2 + FP16",
    "estimator/formulas/storage.py: torchao_int4_bytes: Mult -> Add": "2 * FP16 is 2 + FP16",
    "estimator/kv/layers.py: _states: GtE -> Gt": "16 bits are kept, or are what is taken instead",
    "estimator/kv/layers.py: batch_tokens: Lt -> LtE": "of as many tokens as are held, none has left the window",
    "estimator/moments/standing.py: rotary_bytes: And -> Or": "what is not rotary names no rotary width",
    "estimator/stack/replay.py: Replay.run: 0 -> 1": "no peak is reached before the first buffer of a round",
    "estimator/stack/replay.py: Replay.run: Gt -> GtE": "rounds that leave nothing leave 0 bytes",
    "estimator/stack/replay.py: settle: Add -> Sub": "a slice that ends before it begins is one that ends there",
    "estimator/stack/replay.py: _rename: GtE -> Gt": "of none missing none is moved",
    "estimator/stack/replay.py: _rename: 0 -> 1": "of none missing none is moved",
    "estimator/stack/replay.py: _rename: Gt -> GtE": "of none held none is moved",
    "estimator/stack/replay.py: holders: And -> Or": "two entries of one size are paired by _rename as one is",
    "estimator/stack/replay.py: holders: Is -> IsNot": "a whole number and a traced one are told apart by the number",
    "estimator/moments/run.py: _by_kind: 0 -> 1": "how many train is read only where some are frozen",
    "estimator/moments/run.py: _storing: 0 -> 1": "a key of its own for what is no attention: none has a window of 1",
    "estimator/kv/layers.py: _pooled: GtE -> Gt": "16 bits are kept, or are what is taken instead",
    "estimator/formulas/params.py: active_params: 1 -> 2": "(1, 1): only whether both are equal is asked",
}


def main() -> int:
    """Exit code 1 where fewer than 95% of a part's mutants die."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=[p.name for p in PARTS])
    parser.add_argument("--sample", type=int, help="mutants of each part (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, help="end after so long, of each part")
    parser.add_argument("--record", type=Path)
    asked = parser.parse_args()
    os.chdir(ROOT)
    enough = True
    for part in PARTS:
        if asked.part not in (None, part.name):
            continue
        every = all_mutants(part)
        some = every if asked.sample is None else Random(asked.seed).sample(every, min(asked.sample, len(every)))
        ran = Session(part, some, asked.jobs, asked.minutes)
        without = [word for name in ("xdist", "cacheprovider", "terminal") for word in ("-p", f"no:{name}")]
        pytest.main(["-o", "addopts=", *without, *part.tests], plugins=[ran])
        known = Counter(name for name in ran.survivors if name in KNOWN)
        died = ran.died + known.total()
        print(
            f"{part.name}: {ran.died} of {ran.done} died, {known.total()} more are explained ({len(every)} in all)",
            flush=True,
        )
        enough = enough and ran.done == len(some) and died >= 0.95 * ran.done
        if asked.record:
            data: dict[str, Any] = json.loads(asked.record.read_text()) if asked.record.exists() else {}
            data.setdefault("mutants", []).append(
                {"part": part.name, "in_all": len(every), "mutants": ran.done, "died": ran.died,
                 "explained": known.total(), "seed": asked.seed}
            )  # fmt: skip
            asked.record.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
