"""Public start-up logs gathered after the engines' rules were written, each held to the error it has.

``fresh.json.gz`` keeps a model (a preset or the fields of its config.json), a card, options by their own names, what
the log prints in bytes and tokens (``want``), where it stands, and how far the answer is from it (``errors``). They are
in two halves by the hash of their name: A was looked at while the rules were mended, B after. C came later: vLLM 0.8 to
0.31 and SGLang 0.4 to 0.5.19. ``pool``: the log's own
pool was given, as its card or its share of it is not stated.
"""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.engines.cases import asked

FRESH: list[dict[str, Any]] = json.loads(gzip.decompress((Path(__file__).parent / "fresh.json.gz").read_bytes()))


def errors(r: dict[str, Any]) -> dict[str, float]:
    """How far the answer of each figure is from the log's, as a share of it."""
    got = asked(r)
    return {k: round(float(got[k]) / v - 1, 4) for k, v in r["want"].items()}


@pytest.mark.parametrize("r", FRESH, ids=[r["id"] for r in FRESH])
def test_fresh_log(r: dict[str, Any]) -> None:
    """The errors are those written down: a change says what it does to logs that it was not made for."""
    assert errors(r) == pytest.approx(r["errors"], abs=1e-4)


@pytest.mark.parametrize(("half", "weights", "tokens"), [("A", 0.002, 0.01), ("B", 0.01, 0.05), ("C", 0.002, 0.01)])
def test_halves(half: str, weights: float, tokens: float) -> None:
    """The medians of what people ask for: weights and tokens of logs that state their card."""
    for bar, keys in ((weights, ("weights_bytes",)), (tokens, ("kv_tokens", "kv_blocks"))):
        found = [abs(e) for r in FRESH if r["half"] == half for k, e in r["errors"].items() if k in keys]
        assert len(found) >= 8
        assert statistics.median(found) < bar


if __name__ == "__main__":  # write the errors anew
    for record in FRESH:
        record["errors"] = errors(record)
    data = json.dumps(FRESH, sort_keys=True, separators=(",", ":")).encode()
    (Path(__file__).parent / "fresh.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))
