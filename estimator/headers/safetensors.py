"""The header of a ``.safetensors`` file, and of all shards that an index names.

Layout: 8 bytes little-endian length N, N bytes of JSON ``{name: {dtype, shape, data_offsets}}``, then the data.
Source: the safetensors format description, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import Any

from estimator.errors import InputError
from estimator.headers import FileTensor, Header, fetched, is_pointer, read_start, reason, refuse_pointer, regular_file
from estimator.units import BITS_PER_BYTE

MAX_HEADER = 30_000_000  # as MAX_TENSORS has; the safetensors library's own limit is 100,000,000
MAX_INDEX = 50_000_000
INDEX = "model.safetensors.index.json"
OTHER_INDEXES = ("pytorch_model.bin.index.json", "consolidated.safetensors.index.json")  # totals, of other files
SUFFIX = ".safetensors"
WHAT = "a .safetensors file"
MAX_TENSORS = 200_000  # DeepSeek-V3 has 91,991 in all its shards
MAX_SHARDS = 1_000
_SHARD = re.compile(r"^(.{1,200})-(\d{5})-of-(\d{5})\.safetensors$")

# dtype -> bits an element (safetensors/src/tensor.rs, enum Dtype)
DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def read_file(path: Path) -> Header:
    """The header of one file. InputError where it is truncated, inconsistent or claims more than the file holds."""
    size = regular_file(path, WHAT)
    refuse_pointer(path)
    if size < BITS_PER_BYTE:
        raise InputError(f"{path}: {size} bytes are too few for a .safetensors file")
    length = int.from_bytes(read_start(path, 0, 8), "little")
    if length > size - 8:
        raise InputError(
            f"{path}: claims a header of {length:,} bytes, but the file has {size:,}; truncated or not safetensors"
        )
    if length > MAX_HEADER:
        raise InputError(
            f"{path}: a header of {length:,} bytes is more than the {MAX_HEADER:,} that any model's needs"
        )
    return header_of(parse_object(read_start(path, 8, length), str(path), unique=True), str(path), size - 8 - length)


def header_of(raw: dict[str, Any], where: str, room: int | None) -> Header:
    """A header from its JSON; room: bytes that the file has for the data, None where only the header was read."""
    metadata = raw.pop("__metadata__", None) or {}
    if len(raw) > MAX_TENSORS:
        raise InputError(f"{where}: lists {len(raw):,} tensors, more than the {MAX_TENSORS:,} that any model has")
    tensors = tuple(_tensor(where, name, entry) for name, entry in raw.items())
    _check_offsets(where, raw, room)
    return Header(where, "safetensors", tensors, metadata if isinstance(metadata, dict) else {})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice[:80]!r} stands twice; the header is damaged")
    return out


def parse_object(data: bytes, where: str, unique: bool = False) -> dict[str, Any]:
    """A JSON object from bytes; one-line InputError for everything else, however deep or long its numbers.

    unique: refuse a name that stands twice, which the safetensors format forbids.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once if unique else None)
    except UnicodeDecodeError:
        raise InputError(f"{where}: is not text in UTF-8, so it is not JSON") from None
    except RecursionError:
        raise InputError(f"{where}: JSON nested too deeply") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error.msg} at line {error.lineno}") from None
    except ValueError as error:  # a whole number of more digits than Python reads
        text = str(error) if unique else str(error).split(";")[0]
        raise InputError(f"{where}: {text[:140]}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be a JSON object, got a {type(value).__name__}")
    return value


def _tensor(path: str, name: str, entry: Any) -> FileTensor:
    """One entry, checked: its dtype is known, its shape is whole numbers and its offsets span what they should."""
    where = f"{path}: tensor {name[:80]!r}"
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be an object with dtype, shape and data_offsets")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise InputError(f"{where}: unknown dtype {str(dtype)[:20]!r}")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**63 for n in shape) or len(shape) > 16:
        raise InputError(f"{where}: shape must be a list of whole numbers, got {str(shape)[:40]}")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(n) is int and 0 <= n < 2**63 for n in offsets)
    ):
        raise InputError(f"{where}: data_offsets must be two whole numbers, got {str(offsets)[:40]}")
    elements = prod(shape)
    size = -(-elements * DTYPE_BITS[dtype] // BITS_PER_BYTE)
    if offsets[1] - offsets[0] != size:
        raise InputError(
            f"{where}: {dtype} {shape} takes {size:,} bytes, but its offsets span {offsets[1] - offsets[0]:,}"
        )
    return FileTensor(name, dtype, tuple(shape), elements, size)


def _check_offsets(path: str, raw: dict[str, Any], room: int | None) -> None:
    """The tensors lie one after the other, without gap or overlap, inside the file."""
    end = 0
    for start, stop in sorted(entry["data_offsets"] for entry in raw.values()):
        if start != end:
            how = "overlap" if start < end else "leave a gap"
            raise InputError(f"{path}: tensors {how} at byte {start:,}; the header is damaged")
        end = stop
    if room is not None and end > room:
        raise InputError(f"{path}: claims {end:,} bytes of weights, but holds {room:,}; truncated")
    if room is not None and end < room:
        raise InputError(f"{path}: {room - end:,} bytes follow its last tensor; the safetensors library refuses it too")


def read_index(path: Path) -> Header:
    """All shards that an index names and that are there; the others are listed in ``missing``."""
    if regular_file(path, "an index") > MAX_INDEX:
        raise InputError(f"{path}: larger than the {MAX_INDEX:,} bytes that an index may have")
    try:
        raw = parse_object(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    return index_of(raw, str(path), path.parent)


def index_of(raw: dict[str, Any], where: str, folder: Path | None) -> Header:
    """The shards that an index names: those in ``folder`` are read, the others listed in ``missing``."""
    weight_map = raw.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise InputError(f"{where}: has no weight_map of names to files")
    shards = sorted(set(weight_map.values()))
    if any(Path(s).name != s or s in ("", ".", "..") for s in shards):
        raise InputError(f"{where}: shards must be plain file names beside the index")
    here = [s for s in shards if folder is not None and s.endswith(SUFFIX) and fetched(folder / s)]
    tensors = [t for shard in here for t in read_file(folder / shard).tensors] if folder is not None else []
    total = (raw.get("metadata") or {}).get("total_size") if isinstance(raw.get("metadata"), dict) else None
    if isinstance(total, float) and total.is_integer():
        total = int(total)
    missing = tuple(s for s in shards if s not in here)
    counted = total if type(total) is int and total > 0 else None
    return Header(where, "safetensors", tuple(tensors), {}, missing, counted)


def find(folder: Path) -> Header | None:
    """The header of the weights in a folder: its index, its single file, its shards; None where it has none."""
    for name in (INDEX, *OTHER_INDEXES):
        if (folder / name).is_file():
            return read_index(folder / name)
    single = folder / "model.safetensors"
    if single.is_file():
        gone = Header(str(single), "safetensors", (), {}, (single.name,))
        return gone if is_pointer(single) else read_file(single)
    files = sorted(folder.glob(f"*{SUFFIX}"))[: MAX_SHARDS + 1]
    if len(files) == 1 and not _SHARD.match(files[0].name):
        return read_file(files[0])
    return _shards(folder, [p.name for p in files])


def _shards(folder: Path, names: list[str]) -> Header | None:
    """The shards ``model-00001-of-00003.safetensors`` that no index lists: all of one series, absent ones named."""
    series: dict[tuple[str, int], list[int]] = {}
    for name in names:
        match = _SHARD.match(name)
        if match and 1 <= int(match[2]) <= int(match[3]) <= MAX_SHARDS:
            series.setdefault((match[1], int(match[3])), []).append(int(match[2]))
    if not series:
        return None
    stem, count = max(series, key=lambda key: (key[0] == "model", len(series[key])))
    every = [f"{stem}-{i:05}-of-{count:05}{SUFFIX}" for i in range(1, count + 1)]
    here = [n for n in every if n in names and not is_pointer(folder / n)]
    tensors = tuple(t for n in here for t in read_file(folder / n).tensors)
    missing = tuple(n for n in every if n not in here)
    return Header(str(folder / (here or every)[0]), "safetensors", tensors, {}, missing)
