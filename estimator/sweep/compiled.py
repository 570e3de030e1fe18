"""One question with sizes left open: recorded where that can be, evaluated for many rows, asked singly where not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from estimator.errors import InputError
from estimator.ops import NOTHING, numpy_there
from estimator.questions.base import Question
from estimator.report import Report, numbers_of
from estimator.sweep.evaluate import Evaluator
from estimator.sweep.fold import Recording
from estimator.trace import recording

FEW = 8  # rows that are sooner asked than recorded
POOR = 32  # a record that holds for fewer rows costs more than it saves
PATIENCE = 12  # so many poor ones in a row, and what is left of a chunk is asked singly; then one a chunk is tried
MOST_RECORDS = 512

Results = dict[str, Any]


class Compiled:
    """The answers to ``question`` for columns of the sizes in ``ranges`` (name -> least and most), by key.

    keys: the results that are wanted, None for all of them; names: what errors say beside the sizes. Rows that a record
    holds for are evaluated together; of those that are left one is recorded in its turn. Every record is compared with
    single answers before it is used.
    """

    def __init__(
        self, question: Question, answer: Callable[[Any], Report], ranges: Mapping[str, tuple[int, int]],
        keys: Sequence[str] | None = None, names: Mapping[str, Any] = NOTHING,
    ) -> None:  # fmt: skip
        self.names = names
        self.question, self.answer, self.ranges, self.keys = question, answer, dict(ranges), keys
        self.records: list[Evaluator] = []
        self.poor = 0
        self.singly = not ranges or not numpy_there()

    def single(self, row: Mapping[str, int]) -> Results:
        """The results of the command at one row. InputError names the row."""
        try:
            found = numbers_of(self.answer, replace(self.question, **row))
        except InputError as error:
            where = ", ".join(f"{name} {value}" for name, value in {**self.names, **row}.items())
            raise InputError(f"{error} (at {where})" if where else str(error)) from None
        return found if self.keys is None else {k: found.get(k) for k in self.keys}

    def rows(self, columns: Mapping[str, Any], count: int) -> list[tuple[Any, Results]]:
        """The answers to ``count`` rows in parts: (the rows' places or None for all, key -> array, list or value)."""
        if self.singly:
            return [(None, self._asked(columns, range(count)))]
        import numpy as np

        left = np.arange(count)
        out: list[tuple[Any, Results]] = []
        for known in list(self.records):
            before = len(left)
            left = self._evaluated(known, columns, left, out)
            if len(left) < before and known is not self.records[0]:  # neighbours are alike: tried first from now on
                self.records.remove(known)
                self.records.insert(0, known)
            if not len(left):
                return out
        poor = False
        while len(left) > FEW and not self.singly and not (poor and self.poor >= PATIENCE):
            at = left[len(left) // 2]  # sooner one of many than the first, which is often the odd one
            made = self._record({k: int(v[at]) for k, v in columns.items()})
            before = len(left)
            left = self._checked(made, columns, left, out) if made is not None else left
            poor = before - len(left) < POOR
            self.poor = self.poor + 1 if poor else 0
            self.singly |= before == len(left) or len(self.records) >= MOST_RECORDS
        if len(left):
            out.append((left, self._asked(columns, left)))
        return out

    def _asked(self, columns: Mapping[str, Any], places: Any) -> Results:
        found = [self.single({k: int(v[i]) for k, v in columns.items()}) for i in places]
        names = self.keys if self.keys is not None else list(dict.fromkeys(k for row in found for k in row))
        return {k: [row.get(k) for row in found] for k in names}

    def _record(self, row: Mapping[str, int]) -> Evaluator | None:
        """The question at one row, recorded; None where that cannot be."""
        record = Recording(self.ranges)
        token = recording.set(record)
        try:
            sizes = {name: record.size(name, value) for name, value in row.items()}
            found = self.answer(replace(self.question, **sizes)).results()
        except Exception:  # what cannot be recorded is asked; an error of the row itself is raised there
            return None
        finally:
            recording.reset(token)
        return Evaluator(record, found if self.keys is None else {k: found.get(k) for k in self.keys})

    def _evaluated(self, known: Evaluator, columns: Mapping[str, Any], left: Any, out: list[Any]) -> Any:
        """Add the rows for which ``known`` holds to ``out``; the places of the others."""
        whole = len(left) == len(next(iter(columns.values())))
        part = columns if whole else {k: v[left] for k, v in columns.items()}
        good, outputs = known.rows(part)
        if not good.any():
            return left
        if good.all():
            out.append((None if whole else left, outputs()))
            return left[:0]
        found = {k: v[good] if hasattr(v, "shape") else v for k, v in outputs().items()}
        out.append((left[good], found))
        return left[~good]

    def _checked(self, made: Evaluator, columns: Mapping[str, Any], left: Any, out: list[Any]) -> Any:
        """As :meth:`_evaluated`, after the first and the last of the rows were asked singly and found the same."""
        parts: list[Any] = []
        rest = self._evaluated(made, columns, left, parts)
        for places, found in parts:
            where = left if places is None else places
            for at in {0, len(where) - 1}:
                row = {k: int(v[where[at]]) for k, v in columns.items()}
                if self.single(row) != {k: plain(v, at) for k, v in found.items()}:
                    self.singly = True
                    return left
        self.records.append(made)
        out += parts
        return rest


def plain(value: Any, at: int) -> Any:
    """Row ``at`` of a column, as Python has it; a value that is the same in every row is no column."""
    if isinstance(value, list):
        return value[at]
    if hasattr(value, "shape"):
        value = value[at]
        return value.item() if hasattr(value, "item") else value
    return value
