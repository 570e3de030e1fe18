"""Models in files: a config.json, a folder, ``.safetensors`` files, their index, ``.gguf`` files, ``params.json``."""

from __future__ import annotations

from pathlib import Path

from estimator.errors import InputError
from estimator.headers import Header, gguf, reason, safetensors, shown
from estimator.headers.gguf_config import to_config
from estimator.sources.found import CONFIG, PARAMS, Found, beside, read_config
from estimator.sources.native_mappings import config_of

SUFFIXES = (".json", ".safetensors", ".gguf")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".npz")
BESIDE = ("mmproj", "imatrix")  # in the names of .gguf files beside a model's: a projector, a matrix of importance


def as_path(text: str) -> Path | None:
    """``text`` as a path where it exists or looks like one, else None. InputError for a home that does not exist."""
    if "\0" in text or len(text) > 4096:
        return None
    try:
        path = Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:
        raise InputError(f"--model {text[:80]}: no such user, so there is no home folder of that name") from None
    try:
        there = path.exists() or path.is_symlink()
    except OSError:
        there = False
    looks = text.lower().endswith(SUFFIXES) or text.startswith((".", "/", "~")) or text.endswith("/")
    return path if there or looks else None


def from_path(path: Path) -> Found:
    """The model of a path; InputError for everything that is none."""
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return from_folder(path)
    except OSError as error:
        raise InputError(f"{shown(path)}: {reason(error)}") from None
    if suffix == ".gguf":
        if not (path.exists() or path.is_symlink()):
            from estimator.sources.near import without

            raise InputError(f"{shown(path)}: no such file{without(path.name)}")
        return _from_gguf(path)
    if suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
        return _from_safetensors(path)
    if path.name == PARAMS:
        return _from_params(path)
    if suffix in PICKLES:
        said = "only .safetensors and .gguf files are read; give the folder or its config.json"
        raise InputError(f"{shown(path)}: {said}")
    raw = read_config(path)
    if path.name != CONFIG:
        return Found(path.stem, "file", str(path), raw, beside=beside(path.parent))
    return _configured(path.parent, path, _weights(path.parent))


def from_folder(folder: Path) -> Found:
    """The model of a folder: its config.json with the weights beside it, a GGUF file, params.json, or bare weights."""
    config = folder / CONFIG
    wholes = sorted(p for p in folder.glob("*.gguf") if gguf.is_first(p) and not any(w in p.name for w in BESIDE))
    if config.exists() or config.is_symlink():
        header = safetensors.find(folder)
        if header is None and len(wholes) == 1:
            return _from_gguf(wholes[0])
        found = _configured(folder, config, header)
        if header is None and wholes:
            said = f"holds {len(wholes)} .gguf files, none of which was looked at; name one"
            found.notes.append(f"{shown(folder)}: {said}")
        return found
    if (folder / PARAMS).is_file():
        return _from_params(folder / PARAMS)
    if len(wholes) == 1:
        return _from_gguf(wholes[0])
    if wholes:
        names = ", ".join(p.name for p in wholes[:3])
        raise InputError(f"{shown(folder)}: holds {len(wholes)} models ({names} ...); name one of them")
    header = safetensors.find(folder)
    if header is None:
        inside = _models_below(folder)
        hint = f"; below it: {inside}" if inside else ""
        if (folder / "adapter_config.json").is_file():
            hint = f". It holds an adapter: --adapter {shown(folder)} beside its base model"
        raise InputError(f"{shown(folder)}: holds neither a config.json nor .safetensors or .gguf files{hint}")
    if not header.tensors:
        raise InputError(
            f"{header.path}: lists {len(header.missing)} shards, none of which is here, and there is no config.json "
            "beside it; fetch config.json too"
        )
    return Found(_name(folder), "header", str(folder), None, _bare(header), header=header)


def _models_below(folder: Path) -> str:
    """The sub-folders that hold a model, for an error: also of the hub's cache."""
    try:
        files = [p for name in ("*/config.json", "*/*.gguf", "snapshots/*/config.json") for p in folder.glob(name)]
        found = sorted({str(p.parent.relative_to(folder)) for p in files})[:3]
    except OSError:
        return ""
    return ", ".join(found)


def _name(folder: Path) -> str:
    return folder.resolve().name or str(folder)


def _configured(folder: Path, config: Path, header: Header | None) -> Found:
    return Found(_name(folder), "file", str(config), read_config(config), header=header, beside=beside(folder))


def _weights(folder: Path) -> Header | None:
    """The header of the weights beside a config.json, None where there are none or they cannot be read."""
    try:
        return safetensors.find(folder)
    except InputError:
        return None


def _from_safetensors(path: Path) -> Found:
    header = safetensors.read_index(path) if path.suffix == ".json" else safetensors.read_file(path)
    config = path.parent / CONFIG
    if config.is_file():
        found = _configured(path.parent, config, header)
        found.kind, found.notes = "header", [f"architecture from {config}"]
        return found
    if not header.tensors:
        what = f"lists {len(header.missing)} shards, none of which is here" if header.missing else "holds no tensors"
        raise InputError(f"{shown(path)}: {what}, and there is no config.json beside it")
    name = path.name.removesuffix(".index.json").removesuffix(".safetensors")
    return Found(name, "header", str(path), None, _bare(header), header=header)


def _from_gguf(path: Path) -> Found:
    header = gguf.read(path)
    config = path.parent / CONFIG
    if header.missing and not config.is_file():
        raise InputError(
            f"{shown(path)}: {len(header.missing)} of its parts not here, {header.missing[0]} first; all of them are "
            "needed, or the model's config.json beside it"
        )
    if not header.tensors:
        raise InputError(f"{shown(path)}: holds no tensors")
    if config.is_file():
        raw = read_config(config)
        note = f"architecture from {config}, beside {path.name}"
        return Found(path.stem, "header", str(config), raw, [note], header=header)
    raw_or_none, notes = to_config(header)
    return Found(path.stem, "header", str(path), raw_or_none, notes, header=header)


def _from_params(path: Path) -> Found:
    raw, notes = config_of(read_config(path, "a params.json"), str(path))
    return Found(_name(path.parent), "file", str(path), raw, notes, header=_weights(path.parent))


def _bare(header: Header) -> list[str]:
    return [f"{header.path}: no config.json beside it: parameters and bytes are known, the architecture is not"]
