"""Presets: models and accelerators by the names that people say.

A folder of files, one preset each, whose names are the ids; listing reads names only and loading opens one file.
An installed wheel carries the folder as ``estimator/_presets``, a checkout has it beside the package.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError, unknown
from estimator.texts import too_long
from estimator.units import KIBI

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

LABEL = 1.1  # no card gives a program more of what its label says, counted in GiB: tests/registry holds them to it
MAX_BYTES = 1 << 20  # no preset comes near; a larger file is not one

_ID = re.compile(r"^[a-z0-9][a-z0-9.-]{0,63}$")
_SIZE = re.compile(r"^(.{1,60})-(\d{1,4})gb$")
_BRANDS = re.compile(
    r"\((?:r|tm)\)|\b(?:nvidia|geforce|amd|radeon|instinct|intel|apple|tesla|graphics|generation|gpu|blackwell"
    r"|(?:workstation|server) edition)\b"
)
_BEHIND = re.compile(r"^(.+?)[\s_-]+(\d{1,3})\s*gi?b?(?:[\s_-]*(?:hbm\d?e?|gddr\d?x?|vram))?$")
LONGEST = 100  # characters of a name that somebody may have meant
_VENDOR = re.compile(rb'^vendor = "(.*)"', re.MULTILINE)
_SOLD = re.compile(rb"^sold_gb = ([0-9.]+)", re.MULTILINE)
KINDS = {"models": ".json", "gpus": ".toml", "fermi": ".toml", "laws": ".toml"}


@lru_cache(maxsize=1)
def folder() -> Path:
    """The presets' folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for place in (package / "_presets", package.parent / "presets"):
        if place.is_dir():
            return place
    raise InputError(f"no presets found beside {package}; install llmcalc again")


@lru_cache(maxsize=8)
def ids(kind: str) -> tuple[str, ...]:
    """Every preset's id of this kind (``models``, ``gpus`` ...), sorted; no file is opened."""
    suffix = KINDS[kind]
    return tuple(sorted(p.name.removesuffix(suffix) for p in (folder() / kind).glob(f"*{suffix}")))


@lru_cache(maxsize=2)
def aliases(kind: str) -> dict[str, str]:
    """Other names of this kind's presets, in lower case, to their ids: the lists of ``aliases.json``, turned round."""
    path = folder() / "aliases.json"
    lists = json.loads(path.read_bytes())[kind]
    return {alias.lower(): name for name, others in lists.items() for alias in others}


def find(kind: str, name: str) -> str | None:
    """The id of the preset called ``name`` (an id or an alias, in any case), or None."""
    key = name.strip().lower()
    for spelling in dict.fromkeys((key, key.replace(" ", "-").replace("_", "-"))):
        if _ID.match(spelling) and (folder() / kind / f"{spelling}{KINDS[kind]}").is_file():
            return spelling
        if spelling in aliases(kind):
            return aliases(kind)[spelling]
    if kind != "gpus" or len(key) > LONGEST or not key.isprintable() or key.endswith("-"):  # the beginning of names
        return None
    return said_otherwise(key)


def said_otherwise(name: str) -> str | None:
    """The GPU that a program, a shop or a driver calls so: vendors' words taken off, spaces and dashes anywhere.

    ``nvidia geforce rtx 4090``, ``NVIDIA A100-SXM4-80GB``, ``AMD Instinct MI300X``, ``rtx3060``. A size behind the name
    is only that of the card: ``rtx 4090 24gb``; ``h100 80gb hbm3``.
    """
    known = {_letters(a): own for a, own in (*((n, n) for n in ids("gpus")), *aliases("gpus").items())}
    found = known.get(_letters(name)) if name else None
    if found is None and (match := _BEHIND.match(_BRANDS.sub(" ", name).strip())):
        found = known.get(_letters(match[1]))
        if found is not None and (sold()[found][1] != float(match[2]) or sold()[found][0] == "Apple"):  # see sized()
            return None
    return found


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", _BRANDS.sub(" ", name))


def names(kind: str) -> list[str]:
    """Ids and aliases, for a did-you-mean."""
    return [*ids(kind), *aliases(kind)]


def read(kind: str, name: str) -> tuple[str, dict[str, Any]]:
    """The id and raw contents of a preset; InputError with the nearest names where there is none."""
    found = find(kind, name)
    if found is None:
        what = {"models": "model", "gpus": "GPU"}.get(kind, kind)
        raise unknown(what, name, names(kind), _several(kind, name) or f"List them: llmcalc {kind}")
    path = folder() / kind / f"{found}{KINDS[kind]}"
    shown = f"presets/{kind}/{path.name}"
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{shown}: larger than {MAX_BYTES} bytes, which no preset is")
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise InputError(f"{shown}: {str(error)[:120]}") from None
    if not isinstance(data, dict):
        raise InputError(f"{shown}: must hold a table of fields")
    return found, data


def _several(kind: str, name: str) -> str:
    """What to write for ``8xh100`` and ``h100x8``, the preset and how many of it; for ``24``, a size."""
    if kind != "gpus":
        return ""
    text = name.lower().replace("×", "x").strip()
    if size := re.match(r"^(\d{1,3})\s*gi?$|^(\d{1,3})$", text):
        return f"A card of that size: --gpu {size[1] or size[2]}GB"
    many = re.match(r"^(?P<n>\d+)\s*x\s*(?P<gpu>.+)$|^(?P<of>.+?)\s*x\s*(?P<m>\d+)$", text)
    own = find(kind, many["gpu"] or many["of"]) if many else None
    count = (many["n"] or many["m"]) if many else ""
    return f"For {count} of them: --gpu {own} --gpus {count}" if own else ""


def sold() -> dict[str, tuple[str, float]]:
    """Every GPU's vendor and memory by the label in GB, read off the files' lines: no file is parsed for them."""
    out = {}
    for name in ids("gpus"):
        text = (folder() / "gpus" / f"{name}.toml").read_bytes()
        vendor, size = _VENDOR.search(text), _SOLD.search(text)
        if vendor is not None and size is not None:
            out[name] = (vendor[1].decode(), float(size[1]))
    return out


def larger(vendor: str, memory: int) -> Iterator[GpuSpec]:
    """Every GPU of a vendor that gives a program more than ``memory`` bytes; one whose label is less is not parsed."""
    for name, (own, label) in sold().items():
        if own == vendor and label * LABEL * KIBI**3 >= memory:
            spec = load_gpu(name)
            if spec.memory_bytes > memory:
                yield spec


def read_file(path: str) -> tuple[str, dict[str, Any]]:
    """The name and contents of a user's own TOML file of the presets' schema."""
    try:
        place = Path(path).expanduser()
        if place.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES} bytes, which no preset is")
        data = tomllib.loads(place.read_text(encoding="utf-8").removeprefix("\ufeff"))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {str(error)[:120]}") from None
    if too_long(data):
        raise InputError(f"{path}: a whole number of thousands of digits")
    return place.stem, data


def load_model_preset(name: str) -> tuple[str, dict[str, Any]]:
    """A model's id and preset: ``source``, ``expect`` (the counts it is tested against) and ``config``."""
    return read("models", name)


def sized(name: str) -> tuple[str, dict[str, Any]] | None:
    """A machine of one of the memory sizes it is sold with: ``m2-max-32gb``; None where the name says no such size."""
    match = _SIZE.match(name.strip().lower().replace(" ", "-").replace("_", "-"))
    if match is None or find("gpus", name) is not None or find("gpus", match[1]) is None:
        return None
    found, data = read("gpus", match[1])
    memory, size = data["memory"], int(match[2])
    sizes = memory.get("sizes_gb", ())
    if not sizes:
        return None
    if size not in sizes:
        raise InputError(f"{found} is sold with {', '.join(map(str, sizes))} GB, not {size}")
    kept = {k: v for k, v in memory.items() if not k.startswith(("read_", "reported_"))}
    return f"{found}-{size}gb", {**data, "memory": kept | {"sold_gb": size}}


def load_gpu(name: str) -> GpuSpec:
    """An accelerator by id or alias: ``h100-sxm``, ``a100``, ``4090``. Sources: its file in ``presets/gpus``."""
    return _gpu(name, _written(name) if name.endswith(".toml") else None)


def _written(path: str) -> tuple[int, ...] | None:
    """What tells a file from what it was before; None where there is none."""
    try:
        seen = Path(path).expanduser().stat()
    except (OSError, RuntimeError, ValueError):
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


@lru_cache(maxsize=256)
def _gpu(name: str, written: tuple[int, ...] | None) -> GpuSpec:
    from estimator.schemas import gpu_of

    own = name.endswith(".toml")
    found, data = read_file(name) if own else sized(name) or read("gpus", name)
    data = {"id": found, **data}
    if not own:
        try:
            return gpu_of(data)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass  # a preset that somebody changed: what is wrong is said below
    from estimator.checked import checked_gpu

    return checked_gpu(data, name if own else f"presets/gpus/{found}.toml")
