"""``sweep``: a question for every combination of its options' values, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from estimator.errors import InputError
from estimator.ops import numpy_there
from estimator.questions.base import Question, ask, sizes_of
from estimator.report import Report
from estimator.sizes import as_number
from estimator.sweep.compiled import Compiled, plain
from estimator.sweep.grid import RowGrid, SweptAxis, grid_of, recorded_by

# command -> the name of its question
QUESTIONS = {"memory": "Memory", "kvcache": "KVCache", "flops": "Flops", "peft": "Peft", "zero": "Zero",
             "train": "Train", "infer": "Infer"}  # fmt: skip
CHUNK = 1 << 14  # rows evaluated at once: so that their columns stay in the processor's caches
FIRST = 64  # combinations of names whose keys are looked at where none are given


def question_of(command: str) -> tuple[type[Question], Callable[[Any], Report]]:
    """(the question of a command, what answers it). InputError for a command that is not swept."""
    if command not in QUESTIONS:
        near = get_close_matches(command, QUESTIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"sweep {command[:40]!r}: one of {', '.join(QUESTIONS)}.{hint}")
    package = f"estimator.commands.{command}"
    question = getattr(import_module(f"{package}.question"), QUESTIONS[command])
    return question, import_module(f"{package}.report").answer


class Sweep:
    """A command asked for every row of a grid; ``header`` names the columns: swept options, then keys."""

    def __init__(
        self, command: str, axes: Sequence[SweptAxis], fixed: Mapping[str, Any], keys: Sequence[str] | None = None,
        overrides: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.command = command
        self.question, self.answer = question_of(command)
        self.sizes = sizes_of(self.question)
        self.fixed, self.overrides = dict(fixed), tuple(overrides)
        self.images = "images" in fixed or "image_size" in fixed or any(a.name.startswith("image") for a in axes)
        self.grid: RowGrid = grid_of(axes, () if self.images else recorded_by(command))
        self.axes = tuple(a.name for a in axes)
        first = {a.name: a.values[0] for a in self.grid.sizes}
        found: dict[str, None] = {}
        for names, _ in zip(self.grid.combinations(), range(FIRST), strict=False):
            found |= dict.fromkeys(self._ask({**names, **first}, self.answer).results())
        for key in keys or ():
            if key not in found:
                near = [k for k in found if key in k][:5] or get_close_matches(key, found, n=3)
                hint = f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(found)}"
                raise InputError(f"--keys: {command} has no {key[:60]!r}. {hint}")
        self.keys = list(found if keys is None else keys)
        self.header = [*self.axes, *(k for k in self.keys if k not in self.axes)]

    def _ask(self, options: Mapping[str, Any], then: Callable[[Any], Any] = lambda q: q) -> Any:
        """The question of one row, and what is done with it; InputError names the row's names."""
        given = {**self.fixed, **options}
        model = given.pop("model", None)
        try:
            return then(ask(self.question, model, given, self.overrides))
        except InputError as error:
            where = ", ".join(f"{k} {v}" for k, v in options.items())
            raise InputError(f"{error} (at {where})" if where else str(error)) from None

    def told(self, name: str, value: Any) -> Any:
        """A value of an option as a column and the inputs have it: of a size the int."""
        return as_number(name, value) if name in self.sizes else value

    def chunks(self, rows: int = CHUNK) -> Iterator[dict[str, Any]]:
        """The rows in order, ``rows`` at a time: column -> array (or list, without numpy) of this chunk."""
        sizes = self.grid.sizes
        ranges = {a.name: (min(a.values), max(a.values)) for a in sizes}
        first = {a.name: a.values[0] for a in sizes}
        for names in self.grid.combinations():
            compiled = Compiled(self._ask({**names, **first}), self.answer, ranges, self.keys, names)
            for start in range(0, self.grid.inner, rows):
                stop = min(start + rows, self.grid.inner)
                columns = self.grid.columns(start, stop)
                parts = compiled.rows(columns, stop - start)
                found = {k: column(k, parts, stop - start) for k in self.keys}
                named = {k: filled(self.told(k, v), stop - start) for k, v in names.items()}
                whole = {**found, **named, **columns}
                yield {k: whole[k] for k in self.header}


def filled(value: Any, count: int) -> Any:
    """A column of one value."""
    if not numpy_there():
        return [value] * count
    import numpy as np

    if type(value) is int and abs(value) < 2**63:
        return np.full(count, value, dtype=np.int64)
    return np.full(count, value, dtype=float if type(value) is float else object)


def column(key: str, parts: Sequence[tuple[Any, Mapping[str, Any]]], count: int) -> Any:
    """One column of a chunk out of the parts that were answered together."""
    if len(parts) == 1 and parts[0][0] is None:
        value = parts[0][1][key]
        if isinstance(value, list):
            return narrowed(value)
        return narrow(value) if hasattr(value, "shape") else filled(value, count)
    import numpy as np

    values = [(places, narrow(np.asarray(narrowed(v) if isinstance(v, list) else v))) if hasattr(v, "__len__")
              and not isinstance(v, str) else (places, v) for places, found in parts for v in [found[key]]]  # fmt: skip
    kinds = {_kind(v) for _, v in values}
    out = np.empty(count, dtype=kinds.pop() if len(kinds) == 1 else object)
    for places, v in values:
        out[slice(None) if places is None else places] = v
    return out


def _kind(value: Any) -> Any:
    import numpy as np

    if hasattr(value, "dtype"):
        return value.dtype
    whole = type(value) is int and abs(value) < 2**63
    return np.dtype(np.int64 if whole else float if type(value) is float else object)


def narrow(array: Any) -> Any:
    """Python's ints as 64-bit ones where all of them are."""
    if array.dtype != object or not len(array):
        return array
    whole = all(type(v) is int and abs(v) < 2**63 for v in array.tolist())
    return array.astype("int64") if whole else array


def narrowed(values: list[Any]) -> Any:
    """A list as the narrowest array that holds exactly these values; itself without numpy."""
    if not numpy_there():
        return values
    import numpy as np

    if values and all(type(v) is float for v in values):
        return np.array(values)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return narrow(out)


class Swept:
    """The rows of a sweep: ``columns`` (the swept options and the keys), each an array of ``len()`` values."""

    def __init__(self, columns: dict[str, Any], count: int) -> None:
        self.columns, self._count = columns, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Row by row, as Python's own ints, floats and texts."""
        for i in range(self._count):
            yield {k: plain(v, i) for k, v in self.columns.items()}

    def __repr__(self) -> str:
        return f"Swept({self._count:,} rows: {', '.join(self.columns)})"


def sweep(question: str, model: Any = None, *, keys: Sequence[str] | None = None, **options: Any) -> Swept:
    """``question`` (memory, kvcache, flops, peft, zero, train, infer) for every combination of its options' values.

    model: a name, a Model or a list of them. keys: the results that are wanted, by default all. options: as of the
    function of that name, where a list, a tuple or a range is swept. Returns the columns, whose rows equal what the
    single question answers. With numpy (the extra ``fit``) sizes are evaluated together; without it row by row.
    """
    given = {**({} if model is None else {"model": model}), **options}
    axes = [SweptAxis(k, _values(v)) for k, v in given.items() if _swept(v)]
    for axis in axes:
        if not len(axis.values):
            raise InputError(f"sweep: {axis.name} has no values")
    fixed = {k: v for k, v in given.items() if not _swept(v)}
    asked = Sweep(question, axes, fixed, keys)
    parts = list(asked.chunks())
    return Swept({k: joined([part[k] for part in parts]) for k in asked.header}, len(asked.grid))


def _swept(value: Any) -> bool:
    array = type(value).__module__ == "numpy" and hasattr(value, "tolist")
    return array or isinstance(value, list | tuple | range)


def _values(value: Any) -> Any:
    return value if isinstance(value, range) else value.tolist() if hasattr(value, "tolist") else list(value)


def joined(parts: list[Any]) -> Any:
    """The chunks of a column as one."""
    if isinstance(parts[0], list):
        return [v for part in parts for v in part]
    import numpy as np

    kinds = {part.dtype for part in parts}
    return np.concatenate(parts if len(kinds) == 1 else [part.astype(object) for part in parts])
