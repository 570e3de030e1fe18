"""The records, asked."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from estimator.commands.infer.report import infer
from estimator.commands.kvcache.report import kvcache
from estimator.config import Config
from estimator.models import Model, load_model

HERE = Path(__file__).parent


@cache
def records(what: str) -> list[dict[str, Any]]:
    """``logs`` or ``speeds``."""
    found: list[dict[str, Any]] = json.loads(gzip.decompress((HERE / "records.json.gz").read_bytes()))[what]
    return found


def model_of(r: dict[str, Any]) -> Model:
    """A record's model: a preset or its config."""
    return Model(r["id"], "file", Config(r["config"])) if r.get("config") else load_model(r["model"])


def options_of(r: dict[str, Any]) -> dict[str, Any]:
    """A record's options by the fields of a question."""
    given = r.get("options", {}) | r.get("extra_options", {})
    return {k.replace("-", "_"): v for k, v in given.items()} | {"engine": r["engine"], "gpu": r.get("gpu")}


def asked(r: dict[str, Any]) -> dict[str, Any]:
    """What ``kvcache`` answers."""
    return kvcache(model_of(r), **options_of(r)).results()


def served(r: dict[str, Any], batch: int) -> dict[str, Any]:
    """What ``infer`` answers with ``batch`` sequences."""
    more = {k: r[k] for k in ("dtype", "quantization", "kv_dtype") if r.get(k)}
    more |= {"tensor_parallel": str(r.get("gpus", 1))}
    return infer(model_of(r), batch, r["isl"], r["osl"], **options_of(r), **more).results()
