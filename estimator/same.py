"""An object as the key of what is remembered of it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Same(Generic[T]):
    """Equal for the same object alone, without a look at its parts; holds it, so that no other takes its id."""

    __slots__ = ("it",)

    def __init__(self, it: T) -> None:
        self.it = it

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.it is self.it


class Alike(Generic[T]):
    """Equal where the keys are: what ``it`` gives follows from ``key`` alone."""

    __slots__ = ("it", "key")

    def __init__(self, it: T, key: Hashable) -> None:
        self.it, self.key = it, key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike) and other.key == self.key
