"""Data classes whose methods are written when they are called, and named tuples without their types.

``dataclasses.dataclass`` compiles five functions a class (0.65 ms, where fields and slots take 0.06), which was a
quarter of a cold command: most records of an import are never made, few are compared, hardly one is printed.
:func:`dataclass` here takes the same arguments and leaves all to the library, but the methods to the first call, and
``__init__`` to the thirty-second: of most classes a command makes one or two. ``typing.NamedTuple`` compiles the text
of every annotation, which nobody asks for at run time; :class:`NamedTuple` here keeps the texts.
"""

from __future__ import annotations

from collections import Counter, namedtuple
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, field, fields
from dataclasses import dataclass as library
from dataclasses import replace as by_field
from typing import TYPE_CHECKING, Any, TypeVar, cast

R = TypeVar("R")

OFTEN = 32  # records of one class, from which on its __init__ is compiled
_MADE: Counter[type[Any]] = Counter()


def _again(f: Field[Any]) -> Any:
    """A field of its own with what another one says."""
    default: Any = {"default": f.default, "default_factory": f.default_factory}
    return field(init=f.init, repr=f.repr, hash=f.hash, compare=f.compare, kw_only=bool(f.kw_only), **default)


def _written(cls: type[Any], name: str) -> Any:
    """The method that the library writes for a class with the same fields."""
    space = {"__doc__": cls.__doc__, "__annotations__": {f.name: "" for f in fields(cls)}}
    space |= {f.name: _again(f) for f in fields(cls)}
    if hasattr(cls, "__post_init__"):
        space["__post_init__"] = cls.__post_init__
    made: type[Any] = library(
        init=name == "__init__", repr=name == "__repr__", eq=name in ("__eq__", "__hash__"),
        frozen=getattr(cls, "__setattr__", None) is _refuse_set, slots="__slots__" in vars(cls),
    )(type(cls.__name__, (), space))  # fmt: skip
    method = getattr(made, name)
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method


def _owner(self: Any, name: str, method: Any) -> type[Any] | None:
    """The class of ``self`` whose own ``name`` is still ``method``; None where another thread was first."""
    return next((c for c in type(self).__mro__ if c.__dict__.get(name) is method), None)


def _at_first(name: str) -> Callable[..., Any]:
    """A method that is written into its class the first time that it is called."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        cls = _owner(self, name, method)
        if cls is not None:
            setattr(cls, name, _written(cls, name))
        return getattr(cls or type(self), name)(self, *args, **options)

    method.__name__ = name
    return method


def _refuse_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_del(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    """What copies and pickles of slots take along."""
    return [getattr(self, f.name) for f in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for f, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, f.name, value)


def _bound(cls: type[Any], args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any] | None:
    """The value of every field; None where the arguments are not what the class asks for."""
    every = fields(cls)
    given = dict(zip((f.name for f in every if not f.kw_only), args, strict=False)) | options
    if len(given) < len(args) + len(options) or not given.keys() <= {f.name for f in every}:
        return None
    for f in every:
        if f.name not in given:
            if f.default is MISSING and f.default_factory is MISSING:
                return None
            given[f.name] = f.default if f.default_factory is MISSING else f.default_factory()
    return given


def _init(self: Any, *args: Any, **options: Any) -> None:
    """``__init__`` of a class of which few are made; the library's where many are, or to say what is wrong."""
    cls = _owner(self, "__init__", _init)
    if cls is not None:
        _MADE[cls] += 1
        values = _bound(cls, args, options) if _MADE[cls] < OFTEN else None
        if values is not None:
            put = object.__setattr__ if getattr(cls, "__setattr__", None) is _refuse_set else setattr
            for name, value in values.items():
                put(self, name, value)
            if hasattr(cls, "__post_init__"):
                self.__post_init__()
            return
        setattr(cls, "__init__", _written(cls, "__init__"))  # noqa: B010
    (cls or type(self)).__init__(self, *args, **options)


def replace(record: R, /, **changes: Any) -> R:
    """``dataclasses.replace`` without a look at each field's description: most of a question's hundred stay."""
    cls: Any = type(record)
    known = cls.__dataclass_fields__
    if not changes.keys() <= known.keys():
        return cast("R", by_field(cast("Any", record), **changes))  # which says what is wrong
    new, own = object.__new__(cls), getattr(record, "__dict__", {})
    if own.keys() == known.keys():
        new.__dict__.update(own, **changes)
    else:
        for name in known:
            object.__setattr__(new, name, changes[name] if name in changes else getattr(record, name))
    if hasattr(cls, "__post_init__"):
        new.__post_init__()
    return cast("R", new)


_REPR, _EQ, _HASH = (_at_first(name) for name in ("__repr__", "__eq__", "__hash__"))

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from typing import NamedTuple as NamedTuple
else:

    class _Named(type):
        """Makes a named tuple of a class that names :class:`NamedTuple` as its base."""

        def __new__(mcs, name, bases, space):
            if not bases:
                return super().__new__(mcs, name, bases, space)
            types = space.get("__annotations__", {})
            defaults = [space[f] for f in types if f in space]
            made = namedtuple(name, types, defaults=defaults, module=space["__module__"])
            for key, value in space.items():
                if key not in types:
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Named):
        """``typing.NamedTuple``, whose annotations stay texts."""

    def dataclass(cls=None, /, *, init=True, repr=True, eq=True, frozen=False, kw_only=False, slots=False):
        """``dataclasses.dataclass`` with methods that are written at their first call."""
        if cls is None:
            how = {"init": init, "repr": repr, "eq": eq, "frozen": frozen, "kw_only": kw_only, "slots": slots}
            return lambda found: dataclass(found, **how)
        methods = {"__init__": _init} if init else {}
        if repr:
            methods["__repr__"] = _REPR
        if eq:
            methods |= {"__eq__": _EQ, "__hash__": _HASH if frozen else None}
        if frozen:
            methods |= {"__setattr__": _refuse_set, "__delattr__": _refuse_del}
        if slots:
            methods |= {"__getstate__": _state, "__setstate__": _set_state}
        own = dict(vars(cls))  # what the class writes itself stays; an __eq__ of its own leaves __hash__ at None
        for name, method in methods.items():
            if name not in own or (name == "__hash__" and own[name] is None):
                setattr(cls, name, method)
        return library(init=False, repr=False, eq=False, kw_only=kw_only, slots=slots)(cls)
