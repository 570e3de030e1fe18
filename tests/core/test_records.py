"""Records behave as the standard library's data classes and named tuples do, with less done at import."""

from __future__ import annotations

import dataclasses
import pickle
import typing

import pytest

from estimator import records


def both(write):
    """The same class, once as the library writes it and once as here."""
    return write(dataclasses.dataclass, typing.NamedTuple), write(records.dataclass, records.NamedTuple)


def classes(dataclass, named):
    @dataclass(frozen=True, slots=True)
    class Frozen:
        a: int
        b: float = 2.0
        c: list[int] = dataclasses.field(default_factory=list)

        def __post_init__(self):
            if self.a < 0:
                raise ValueError("a")

    @dataclass(kw_only=True)
    class Base:
        a: int = 1
        b: str

    @dataclass
    class Derived(Base):
        c: int
        d: object = None

    class Named(named):
        """Words."""

        a: int
        b: NotThere = 2  # noqa: F821

        @property
        def double(self):
            return 2 * self.b

    return Frozen, Base, Derived, Named


LIBRARY, OURS = both(classes)
CALLS = [
    (0, (1,), {}), (0, (1, 3), {}), (0, (), {"a": 1, "c": [1]}), (0, (-1,), {}), (0, (), {}), (0, (1, 2, 3, 4), {}),
    (0, (1,), {"x": 1}), (1, (), {"b": "x"}), (1, ("x",), {}), (1, (), {}), (2, (5,), {"b": "y"}),
    (2, (5, 6), {"b": "y", "a": 0}), (2, (), {"b": "y"}), (3, (1,), {}), (3, (), {"b": 1, "a": 0}), (3, (), {}),
]  # fmt: skip


def outcome(cls, args, options):
    try:
        made = cls(*args, **options)
    except (TypeError, ValueError) as error:
        return type(error), str(error).replace("classes.<locals>.", "")
    return repr(made).replace("classes.<locals>.", "")


@pytest.mark.parametrize(("which", "args", "options"), CALLS)
def test_made_and_refused_alike(which, args, options):
    assert outcome(OURS[which], args, options) == outcome(LIBRARY[which], args, options)


def test_factories_make_anew():
    one, two = OURS[0](1), OURS[0](1)
    assert one == two
    assert one.c is not two.c


def test_frozen_stays_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        OURS[0](1).a = 2


def test_named_tuples_are_tuples_with_their_texts():
    ours, library = OURS[3], LIBRARY[3]
    assert ours(1)._replace(b=4).double == 8
    assert ours._field_defaults == library._field_defaults
    assert ours._fields == library._fields
    assert ours.__annotations__ == {"a": "int", "b": "NotThere"}
    assert (ours.__doc__, ours.__module__, ours.__bases__) == (library.__doc__, __name__, (tuple,))


class Kept(records.NamedTuple):
    a: int


@records.dataclass(frozen=True, slots=True)
class Held:
    a: int = 1


@pytest.mark.parametrize("what", [Kept(3), Held(4)])
def test_pickled(what):
    assert pickle.loads(pickle.dumps(what)) == what




CHANGES = [
    (0, (1,), {}), (0, (1,), {"a": 4, "c": [2]}), (0, (1,), {"a": -1}), (0, (1,), {"x": 1}), (1, (), {"b": "y"}),
    (1, (), {"a": 0, "b": "y"}), (2, (5,), {"d": 3}), (2, (5,), {"e": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("which", "args", "changes"), CHANGES)
def test_replaced_as_the_library_does(which, args, changes):
    given = {} if which == 0 else {"b": "x"}

    def changed(classes, replace):
        return outcome(lambda: replace(classes[which](*args, **given), **changes), (), {})

    assert changed(OURS, records.replace) == changed(LIBRARY, dataclasses.replace)


def test_a_replaced_record_is_another():
    one = OURS[2](5, b="x")
    other = records.replace(one, d=1)
    assert (one.d, other.d) == (None, 1)
