"""Data classes whose methods the library writes when they are first called.

``dataclasses.dataclass`` compiles five functions a class (0.65 ms, where fields and slots take 0.06), which was a
quarter of a cold command: most records of an import are never made, few are compared, hardly one is printed.
:func:`dataclass` here takes the same arguments and leaves all to the library, but the methods to the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, FrozenInstanceError, field, fields
from dataclasses import dataclass as library
from typing import TYPE_CHECKING, Any


def _again(f: Field[Any]) -> Any:
    """A field of its own with what another one says."""
    default: Any = {"default": f.default, "default_factory": f.default_factory}
    return field(init=f.init, repr=f.repr, hash=f.hash, compare=f.compare, kw_only=bool(f.kw_only), **default)


def _twin(cls: type[Any], name: str) -> type[Any]:
    """A class that the library has written ``name`` for, with the same fields."""
    space = {"__doc__": cls.__doc__, "__annotations__": {f.name: "" for f in fields(cls)}}
    space |= {f.name: _again(f) for f in fields(cls)}
    if hasattr(cls, "__post_init__"):
        space["__post_init__"] = cls.__post_init__
    made: type[Any] = library(
        init=name == "__init__", repr=name == "__repr__", eq=name in ("__eq__", "__hash__"),
        frozen=getattr(cls, "__setattr__", None) is _refuse_set, slots="__slots__" in vars(cls),
    )(type(cls.__name__, (), space))  # fmt: skip
    return made


def _at_first(name: str) -> Callable[..., Any]:
    """A method that is written into its class the first time that it is called."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        cls = next((c for c in type(self).__mro__ if c.__dict__.get(name) is method), None)
        if cls is not None:  # else another thread was first
            setattr(cls, name, getattr(_twin(cls, name), name))
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


_INIT, _REPR, _EQ, _HASH = (_at_first(name) for name in ("__init__", "__repr__", "__eq__", "__hash__"))

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, init=True, repr=True, eq=True, frozen=False, kw_only=False, slots=False):
        """``dataclasses.dataclass`` with methods that are written at their first call."""
        if cls is None:
            how = {"init": init, "repr": repr, "eq": eq, "frozen": frozen, "kw_only": kw_only, "slots": slots}
            return lambda found: dataclass(found, **how)
        methods = {"__init__": _INIT} if init else {}
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
