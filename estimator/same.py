"""An object as the key of what is remembered of it, and what is remembered beside what was asked for it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

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


class Answered(Generic[T]):
    """What was made, each time with what was asked of something and what it answered.

    It serves again wherever all that was asked is answered the same.
    """

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made: list[tuple[Mapping[Any, Any], T]] = []

    def known(self, answer: Callable[[Any], Any]) -> T | None:
        """What was made under the same answers; None where nothing was."""
        return next((made for said, made in self.made if all(answer(k) == v for k, v in said.items())), None)

    def keep(self, said: Mapping[Any, Any], made: T) -> T:
        """Remember ``made`` and return it. said: what was asked -> what was answered."""
        self.made.append((said, made))
        return made
