"""estimator.records.dataclass beside the library's own: the same behaviour, whatever is called first."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest

from estimator.records import dataclass


def point(decorate):
    @decorate
    class Point:
        x: int
        y: int = 2
        tags: list = dataclasses.field(default_factory=list, compare=False)
        hidden: int = dataclasses.field(default=5, repr=False, kw_only=True)
        sum: int = dataclasses.field(init=False, default=0)

        def norm(self):
            return self.x + self.y

    return Point


WAYS = ({}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}, {"kw_only": True},
        {"frozen": True, "eq": False}, {"repr": False})  # fmt: skip


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_the_library_agrees(how):
    ours, theirs = point(dataclass(**how)), point(dataclasses.dataclass(**how))
    assert [f.name for f in dataclasses.fields(ours)] == [f.name for f in dataclasses.fields(theirs)]
    assert ours.__match_args__ == theirs.__match_args__
    made, same = ours(x=1, hidden=7), theirs(x=1, hidden=7)
    for name in ("x", "y", "tags", "hidden", "sum"):
        assert getattr(made, name) == getattr(same, name)
    assert (made == ours(x=1, hidden=7)) == (same == theirs(x=1, hidden=7))
    assert (made == ours(x=1, hidden=8)) == (same == theirs(x=1, hidden=8))
    assert made != same
    if how.get("repr", True):
        assert repr(made).partition("Point")[2] == repr(same).partition("Point")[2]
    assert made.tags is not ours(x=1).tags
    moved = dataclasses.replace(made, x=4) if not how.get("repr") else made
    assert (moved.x, moved.hidden, moved.norm()) == (4, 7, 6)
    assert dataclasses.asdict(made) == dataclasses.asdict(same)
    assert (ours.__hash__ is None) == (theirs.__hash__ is None)
    if ours.__hash__ is not None and how.get("eq", True):
        assert hash(made) == hash(same)
    assert hasattr(made, "__dict__") == hasattr(same, "__dict__")
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("slots", [False, True])
def test_frozen(slots):
    made = point(dataclass(frozen=True, slots=slots))(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.x = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.x
    assert copy.copy(made) == made
    assert copy.deepcopy(made) == made


@dataclass(frozen=True, slots=True)
class Base:
    a: int
    b: str = "b"


@dataclass(frozen=True, slots=True)
class Derived(Base):
    c: float = 0.5

    def __post_init__(self):
        object.__setattr__(self, "b", self.b * 2)


def test_inheritance_and_pickles():
    """The derived class first, its base after it: each writes its own methods."""
    made = Derived(1)
    assert (made.a, made.b, made.c) == (1, "bb", 0.5)
    assert Base(1) == Base(1, "b")
    assert made != Base(1, "bb")
    assert pickle.loads(pickle.dumps(made)) == made
    assert len({Derived(1), Derived(1), Derived(2)}) == 2


def test_wrong_arguments():
    for call in (lambda: Base(), lambda: Base(1, "b", 3), lambda: Base(1, z=2)):
        with pytest.raises(TypeError):
            call()
