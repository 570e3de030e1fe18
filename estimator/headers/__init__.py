"""Files of weights, of which only the header is read: what tensors they hold, of which type, in how many bytes."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from estimator.errors import InputError
from estimator.records import dataclass

POINTER_BYTES = 1024  # git-lfs docs/spec.md: a pointer is shorter


@dataclass(frozen=True, slots=True)
class FileTensor:
    """One tensor as a header lists it; ``bytes`` is what it takes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of one file, or of all shards of a model, says.

    metadata     the file's own key-value pairs (GGUF), or its ``__metadata__`` (safetensors)
    missing      shards that the index lists but that are not there
    total_bytes  what the index says that all shards hold, or None
    """

    path: str
    kind: str
    tensors: tuple[FileTensor, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    total_bytes: int | None = None

    @property
    def elements(self) -> int:
        """Elements of all tensors, buffers and packed codes included."""
        return sum(t.elements for t in self.tensors)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors that were found."""
        return sum(t.bytes for t in self.tensors)

    def by_dtype(self) -> dict[str, tuple[int, int]]:
        """dtype -> (elements, bytes), largest first."""
        elements: Counter[str] = Counter()
        size: Counter[str] = Counter()
        for t in self.tensors:
            elements[t.dtype] += t.elements
            size[t.dtype] += t.bytes
        return {dtype: (elements[dtype], n) for dtype, n in size.most_common()}


def regular_file(path: Path, what: str) -> int:
    """The size of a regular file; a one-line InputError for everything else (missing, a folder, a pipe, a device).

    Asked before a file is opened, since opening a pipe would wait for a writer.
    """
    try:
        info = path.stat()
    except FileNotFoundError:
        gone = "a link to a file that does not exist" if path.is_symlink() else "no such file"
        raise InputError(f"{path}: {gone}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(path)}: {reason(error)}") from None
    if stat.S_ISDIR(info.st_mode):
        raise InputError(f"{path}: is a folder, not {what}")
    if not stat.S_ISREG(info.st_mode):
        raise InputError(f"{path}: is not a regular file, so it cannot be {what}")
    return info.st_size


def is_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of one that was not fetched."""
    try:
        if not path.is_file() or path.stat().st_size > POINTER_BYTES:
            return False
        return path.read_bytes().startswith(b"version https://git-lfs")
    except OSError:
        return False


def fetched(path: Path) -> bool:
    """Whether a part of several files is here, itself and not its pointer."""
    return path.exists() and not is_pointer(path)


def refuse_pointer(path: Path) -> None:
    """InputError for a Git LFS pointer."""
    if is_pointer(path):
        raise InputError(f"{path}: is a Git LFS pointer, the file itself was not fetched (git lfs pull fetches it)")


def shown(path: Path) -> str:
    """A path for an error message: long ones lose their middle."""
    text = str(path)
    return text if len(text) <= 160 else f"{text[:60]}...{text[-60:]}"


def reason(error: Exception) -> str:
    """What an operating system's error says, short."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error))[:100]


def read_start(path: Path, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` of a regular file; InputError where it cannot be read or is shorter."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if len(data) != size:
        raise InputError(f"{path}: truncated: {size} bytes expected at {offset}, found {len(data)}")
    return data
