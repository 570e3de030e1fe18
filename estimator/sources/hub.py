"""Models of the Hugging Face hub: names, pasted addresses, revisions, folders, the local cache; never their weights.

Only the config, the index or the header of the weights (a range of bytes) and ModelOpt's file are fetched, with one
attempt of a few seconds each, by the standard library. Addresses: huggingface_hub file_download.py, hf_hub_url;
the cache's layout: its docs, "Understand caching".
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from estimator import presets
from estimator.errors import InputError
from estimator.headers import Header, safetensors
from estimator.records import NamedTuple
from estimator.sources.found import CONFIG, HF_QUANT, MAX_CONFIG_BYTES, PARAMS, Found

TIMEOUT = 5.0  # seconds of the one attempt
FIRST = 262_144  # bytes of a weights file asked for first: most headers are shorter
HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
HELD = (CONFIG, PARAMS, "adapter_config.json")  # files beside weights that say what a folder holds
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
REPO = re.compile(rf"^{_PART}/{_PART}$")
_REVISION = r"refs/\w{1,20}/[\w.-]{1,60}|[\w.-]{1,100}"
_PLACE = re.compile(rf"^(?P<repo>{_PART}(?:/{_PART})?)(?:@(?P<rev>{_REVISION}))?(?P<sub>(?:/[\w. -]{{1,100}})*)$")
# org/name-GGUF:Q4_K_M, as Ollama and llama.cpp take it
TAGGED = re.compile(
    r"^(?:hf:|https://)?(?:(?:huggingface\.co|hf\.co)/)?(?P<repo>[\w.-]+/(?P<name>[\w.-]+?))-GGUF:(?P<mix>\w+)$",
    re.IGNORECASE,
)


class Repository(NamedTuple):
    """A repository (``org/name`` or ``name``), its revision and a folder inside it."""

    repo: str
    revision: str = "main"
    folder: str = ""

    @property
    def name(self) -> str:
        tail = f"/{self.folder}" if self.folder else ""
        return f"{self.repo}{f'@{self.revision}' if self.revision != 'main' else ''}{tail}"

    def file(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


def place_of(text: str) -> Repository:
    """``hf:org/name@revision/folder``, ``hf:name`` or a pasted address. InputError for everything else."""
    rest = re.sub(r"^(hf:(//)?|https?://)", "", text.strip())
    tagged = TAGGED.match(text.strip())
    if tagged is not None:
        from estimator.sources.near import base_of

        base = base_of(tagged["name"]) or f"hf:{tagged['repo']}"
        raise InputError(
            f"--model {text[:80]}: names a GGUF file by its tag. Give the path of the file, "
            f"or the base and the mix: --model {base} --quantization {tagged['mix']}"
        )
    host, _, path = rest.partition("/")
    if host.lower() in HOSTS:
        return _address(text, path)
    if re.match(r"^https?://", text.strip()):
        raise InputError(f"--model {text[:100]}: only addresses of huggingface.co are read")
    if re.search(r"/(tree|blob|resolve|raw)/", rest):
        return _address(text, rest)
    org, name, *more = [*rest.split("/"), ""]
    found = _PLACE.match(rest.rstrip("/"))
    if found is None or ".." in rest or (not more and "." in org and not name):
        raise InputError(
            f"--model {text[:80]}: expected hf:ORG/NAME, hf:ORG/NAME@REVISION or a folder in it, "
            "for instance hf:Qwen/Qwen3-8B"
        )
    return Repository(found["repo"], found["rev"] or "main", found["sub"].strip("/"))


def _address(text: str, path: str) -> Repository:
    """The place of a pasted address: a repository, or what its /tree/, /blob/ or /resolve/ shows."""
    parts = [p for p in path.partition("?")[0].partition("#")[0].split("/") if p]
    marks = [i for i, p in enumerate(parts) if p in ("tree", "blob", "resolve", "raw")]
    at = marks[0] if marks else min(2, len(parts))
    repo, rest = "/".join(parts[:at]), parts[at + 1 :] if marks else []
    if not re.match(rf"^{_PART}(/{_PART})?$", repo) or ".." in parts or parts[0] in ("datasets", "spaces"):
        raise InputError(f"--model {text[:100]}: is no address of a model on huggingface.co")
    inside = [p for p in rest[1:] if not p.endswith((".json", ".safetensors", ".gguf", ".md"))]
    return Repository(repo, rest[0] if rest else "main", "/".join(inside))


def from_hub(text: str) -> Found:
    """The model of a place on the hub: from its local cache where it is there, else fetched."""
    place = place_of(text)
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    cached = _cached(place, alone=offline)
    if cached is not None:
        return cached
    if offline:
        why = "not in the local cache, and HF_HUB_OFFLINE is set"
        raise InputError(f"--model hf:{place.name}: {why}. {_instead(place)}")
    return _fetched(place)


def from_cache(repo: str) -> Found | None:
    """A repository of the local cache by its name alone, or None."""
    return _cached(Repository(repo), alone=True)


def cache_folder() -> Path:
    """Where huggingface_hub keeps what it downloaded: HF_HUB_CACHE, HF_HOME/hub or ~/.cache/huggingface/hub."""
    for name, tail in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if os.environ.get(name):
            return Path(os.environ[name]) / tail
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "huggingface" / "hub"
    except RuntimeError:
        return Path("huggingface-has-no-home")


def _cached(place: Repository, alone: bool = False) -> Found | None:
    """The model as the cache holds it; ``alone``: also weights or a file beside a config that was not fetched."""
    from estimator.sources.files import from_folder

    root = cache_folder() / f"models--{place.repo.replace('/', '--')}"
    try:
        ref = root / "refs" / place.revision
        commit = ref.read_text(encoding="utf-8").strip()[:64] if ref.is_file() else place.revision
        folder = root / "snapshots" / commit / place.folder
        if not re.fullmatch(r"[\w.-]+", commit) or not folder.is_dir():
            return None
        held = (folder / CONFIG).is_file() or any(folder.glob("*.gguf"))
        if not held and not (alone and any(p.suffix == ".safetensors" or p.name in HELD for p in folder.iterdir())):
            return None
    except (OSError, ValueError):
        return None
    found = from_folder(folder)
    found.name, found.kind = place.name, "hub"
    found.notes.append(f"hf:{place.name} as the local hub cache holds it, commit {commit[:12]}")
    return found


def _fetched(place: Repository) -> Found:
    raw = _json(place, CONFIG)
    where, notes = f"hf:{place.name} {CONFIG}", [f"{CONFIG} of {place.name} on the hub"]
    if raw is None:
        from estimator.sources.native_mappings import config_of

        params = _json(place, PARAMS)
        if params is None:
            raise InputError(f"--model hf:{place.name}: has neither a {CONFIG} nor a {PARAMS}{_gguf_hint(place)}")
        raw, notes = config_of(params, f"hf:{place.name} {PARAMS}")
    quant = _json(place, HF_QUANT) if "quantization_config" not in raw else None
    beside = {HF_QUANT: quant} if quant is not None else {}
    return Found(place.name, "hub", where, raw, notes, header=_header(place, notes), beside=beside)


def _gguf_hint(place: Repository) -> str:
    return "; download one of its .gguf files and give its path" if "gguf" in place.repo.lower() else ""


def _json(place: Repository, name: str) -> dict[str, Any] | None:
    data = _get(place, name, MAX_CONFIG_BYTES)
    return None if data is None else safetensors.parse_object(data, f"hf:{place.name} {name}")


def _header(place: Repository, notes: list[str]) -> Header | None:
    """The index's total, or the header of the single file; None where neither is there or can be read."""
    try:
        index = _get(place, safetensors.INDEX, safetensors.MAX_INDEX)
        if index is not None:
            raw = safetensors.parse_object(index, f"hf:{place.name} {safetensors.INDEX}")
            return safetensors.index_of(raw, f"hf:{place.name} {safetensors.INDEX}", None)
        start = _get(place, "model.safetensors", FIRST, ranged=True)
        if start is None or len(start) < 8:
            return None
        length = int.from_bytes(start[:8], "little")
        if length > safetensors.MAX_HEADER:
            return None
        if length + 8 > len(start):
            start = _get(place, "model.safetensors", length + 8, ranged=True) or b""
        raw = safetensors.parse_object(start[8 : 8 + length], f"hf:{place.name} model.safetensors")
        return safetensors.header_of(raw, f"hf:{place.name} model.safetensors", None)
    except InputError as error:
        notes.append(f"weights not looked at: {error}")
        return None


def _get(place: Repository, name: str, most: int, ranged: bool = False) -> bytes | None:
    """A file's bytes (its first ``most`` where ``ranged``), None where it is not there. One attempt."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote
    from urllib.request import Request, urlopen

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise InputError(f"HF_ENDPOINT must be an address, got {endpoint[:60]!r}")
    url = f"{endpoint}/{quote(place.repo)}/resolve/{quote(place.revision, safe='')}/{quote(place.file(name))}"
    request = Request(url, headers={"User-Agent": "llmcalc"} | ({"Range": f"bytes=0-{most - 1}"} if ranged else {}))
    token = _token()
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"fetching {name} of {place.name} ...", file=sys.stderr)
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(most + 1)
    except HTTPError as error:
        error.close()
        _refused(place, name, error.code, error.headers)
        return None
    except (URLError, HTTPException, OSError, ValueError) as error:
        why = str(getattr(error, "reason", error)) or type(error).__name__
        short = " ".join(why.split())[:100]
        raise InputError(
            f"--model hf:{place.name}: {name} could not be fetched ({short}). Offline? {_instead(place)}"
        ) from None
    if len(data) > most and not ranged:
        raise InputError(f"--model hf:{place.name}: {name} is larger than {most:,} bytes")
    return data[:most]


def _instead(place: Repository) -> str:
    """What to give where the hub cannot be asked."""
    from estimator.sources.near import base_of

    same = presets.find("models", place.repo)
    base = None if same else base_of(place.repo.rpartition("/")[2])
    other = f"the preset {same}" if same else "a path" + (f", or its base, the preset {base}," if base else "")
    return f"Give {other} instead"


def _token() -> str:
    """What opens gated and private models: HF_TOKEN, or what ``hf auth login`` stored where the extra is installed."""
    given = os.environ.get("HF_TOKEN", "").strip()
    if given:
        return given
    try:
        from huggingface_hub import get_token
    except ImportError:
        return ""
    return str(get_token() or "")


def _refused(place: Repository, name: str, code: int, headers: Mapping[str, str] | Any) -> None:
    """Nothing for a file that is not there; InputError for a repository that is gated, missing or unreachable."""
    kind = str((headers or {}).get("X-Error-Code") or "")
    if kind == "EntryNotFound" or (code in (404, 416) and not kind):
        return
    if kind == "GatedRepo" or code == 403:
        raise InputError(
            f"--model hf:{place.name}: is gated: accept its terms on its page and set HF_TOKEN, or give a path"
        )
    if kind == "RevisionNotFound":
        raise InputError(f"--model hf:{place.name}: has no revision {place.revision[:60]!r}")
    if kind == "RepoNotFound" or code in (401, 404):
        raise InputError(
            f"--model hf:{place.name}: no such repository on the hub, or a private one (HF_TOKEN opens it)"
        )
    raise InputError(f"--model hf:{place.name}: the hub answered {code} for {name}; try again, or give a path")
