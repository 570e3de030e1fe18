"""The header of a ``.gguf`` file: its key-value pairs and its list of tensors, never its data.

Read here rather than by the ``gguf`` package, which maps the whole file, turns every token of the vocabulary into an
object and trusts every length it reads. Source: the format description in ggml's docs/gguf.md; types and block sizes
from llama.cpp's gguf-py/gguf/constants.py (GGML_QUANT_SIZES).
"""

from __future__ import annotations

import re
import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from estimator.dtypes import GGML_TYPES, gguf_format
from estimator.errors import InputError
from estimator.headers import FileTensor, Header, fetched, refuse_pointer, regular_file

MAX_HEADER = 64_000_000  # a vocabulary of 256k tokens with its merges takes about 10 MB
MAX_PAIRS = 100_000
MAX_TENSORS = 200_000
MAX_ITEMS = 2_000_000  # of all arrays: a vocabulary of 256k tokens with its merges has 800k
KEEP_ITEMS = 1024  # longer arrays (vocabularies) are skipped; their length is kept as ``<key>.length``
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")  # llama.cpp's gguf-split


class _Reader:
    """Reads forward, refusing every length that reaches past the end of the file."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.file, self.path, self.left = file, path, min(size, MAX_HEADER)
        self.items = MAX_ITEMS

    def take(self, size: int) -> bytes:
        self.claim(size)
        data = self.file.read(size)
        if len(data) != size:
            raise InputError(f"{self.path}: truncated inside its header")
        return data

    def skip(self, size: int) -> None:
        self.claim(size)
        self.file.seek(size, 1)

    def claim(self, size: int) -> None:
        if size > self.left:
            follow = f"only {self.left:,} follow; truncated or damaged"
            raise InputError(f"{self.path}: the header claims {size:,} more bytes, but {follow}")
        self.left -= size

    def number(self, kind: int) -> Any:
        code = _SCALARS[kind]
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def string(self) -> str:
        return self.take(self.number(10)).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """A value of this type; arrays longer than KEEP_ITEMS come back as their length only."""
        if kind in _SCALARS:
            return self.number(kind)
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or depth > 2:
            raise InputError(f"{self.path}: unknown value type {kind} in its header")
        item, count = self.number(4), self.number(10)
        if item in _SCALARS and count > KEEP_ITEMS:
            self.skip(count * struct.calcsize(_SCALARS[item]))
            return _Length(count)
        self.claim_items(count)
        if item in _SCALARS:
            code = _SCALARS[item]
            return list(struct.unpack(f"<{count}{code[1]}", self.take(count * struct.calcsize(code))))
        if item == _STRING and count > KEEP_ITEMS:
            for _ in range(count):
                self.skip(self.number(10))
            return _Length(count)
        return [self.value(item, depth + 1) for _ in range(count)]

    def claim_items(self, count: int) -> None:
        """An array of ``count`` items needs at least that many bytes."""
        if count > self.left:
            raise InputError(
                f"{self.path}: the header claims {count:,} items, but only {self.left:,} bytes follow; damaged"
            )
        self.items -= count + 1
        if self.items < 0:
            raise InputError(f"{self.path}: more than {MAX_ITEMS:,} items in the arrays of its header; damaged")


class _Length(int):
    """The length of an array whose items were skipped."""


def is_first(path: Path) -> bool:
    """Whether a file is a model of its own or the first of its parts."""
    match = _PART.search(path.name)
    return match is None or int(match[1]) == 1


def read(path: Path) -> Header:
    """The header of a file, or of all parts where it is one of ``...-00001-of-00003.gguf``; absent parts are listed."""
    first = read_file(path)
    match = _PART.search(path.name)
    if not match or first.metadata.get("split.count", 1) != int(match[2]):
        return first
    count = int(match[2])
    names = [f"{path.name[: match.start()]}-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1)]
    here = [n for n in names if fetched(path.parent / n)]
    parts = [first if n == path.name else read_file(path.parent / n) for n in here]
    tensors = tuple(t for part in parts for t in part.tensors)
    metadata = {k: v for part in reversed(parts) for k, v in part.metadata.items()}
    return Header(str(path), "gguf", tensors, metadata, tuple(n for n in names if n not in here))


def read_file(path: Path) -> Header:
    """The header of one file. InputError where it is truncated, of an unknown version or claims more than there is."""
    size = regular_file(path, "a .gguf file")
    refuse_pointer(path)
    try:
        with path.open("rb") as file:
            return _read(_Reader(file, path, size), path, size)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _read(r: _Reader, path: Path, size: int) -> Header:
    if size < 24 or r.take(4) != b"GGUF":
        raise InputError(f"{path}: not a GGUF file")
    version = r.number(4)
    if version not in (2, 3):
        raise InputError(f"{path}: GGUF version {version} is not known; 2 and 3 are (big-endian files are not)")
    tensors, pairs = r.number(10), r.number(10)
    for what, count, most in (("tensors", tensors, MAX_TENSORS), ("key-value pairs", pairs, MAX_PAIRS)):
        if count > most or count > r.left:
            raise InputError(f"{path}: claims {count:,} {what}; the header is damaged")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = r.string()
        value = r.value(r.number(4))
        metadata[f"{key}.length" if isinstance(value, _Length) else key] = (
            int(value) if isinstance(value, _Length) else value
        )
    found = [_tensor(r, path) for _ in range(tensors)]
    _check_room(path, found, metadata, r.file.tell(), size)
    return Header(str(path), "gguf", tuple(t for t, _ in found), metadata)


def _tensor(r: _Reader, path: Path) -> tuple[FileTensor, int]:
    """A tensor and its offset. GGUF lists dimensions innermost first; shapes here are outermost first, as in torch."""
    name, dims = r.string(), r.number(4)
    where = f"{path}: tensor {name[:80]!r}"
    if dims > 8:
        raise InputError(f"{where}: claims {dims} dimensions; the header is damaged")
    shape = tuple(r.number(10) for _ in range(dims))[::-1]
    kind, offset = r.number(4), r.number(10)
    if kind not in GGML_TYPES:
        raise InputError(f"{where}: type {kind} is not known to this version")
    stored, elements = gguf_format(kind), prod(shape)
    if elements >= 2**63:
        raise InputError(f"{where}: shape {list(shape)} is out of range; the header is damaged")
    if shape and shape[-1] % stored.block:
        raise InputError(f"{where}: shape {list(shape)} does not divide into blocks of {stored.block}")
    return FileTensor(name, stored.name, shape, elements, stored.bytes(elements)), offset


def _check_room(path: Path, found: list[tuple[FileTensor, int]], metadata: dict[str, Any], end: int, size: int) -> None:
    """Every tensor's data lies inside the file."""
    align = metadata.get("general.alignment", 32)
    align = align if isinstance(align, int) and 0 < align <= 2**20 else 32
    start = -(-end // align) * align
    for tensor, offset in found:
        if start + offset + tensor.bytes > size:
            end = start + offset + tensor.bytes
            where = f"{path}: tensor {tensor.name[:80]!r}"
            raise InputError(f"{where} claims bytes up to {end:,}, but the file has {size:,}; truncated")
