"""llama.cpp with layers and experts on the host, and on several cards, against public runs: the errors are printed."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from estimator import api

ROWS = json.loads((Path(__file__).parent / "llamacpp_host.json").read_text())["rows"]
BARS = (0.12, 0.30)  # median and nine of ten, as where all is on one card


def error(row):
    """Estimated over measured tokens a second, less one."""
    _, options, kind, rate = row
    found = api.infer(options["model"], engine="llama.cpp", **{k: v for k, v in options.items() if k != "model"})
    seconds = found.results()
    got = options["seq_len"] / seconds["prefill_seconds"] if kind == "pp" else 1 / seconds["decode_step_seconds"]
    return got / rate - 1


@pytest.mark.thorough
def test_what_stays_on_the_host():
    found = {row[0]: error(row) for row in ROWS}
    print({name: f"{e:+.0%}" for name, e in found.items()})
    errors = sorted(map(abs, found.values()))
    assert median(errors) <= BARS[0]
    assert errors[int(0.9 * len(errors))] <= BARS[1]
    tokens = [abs(e) for name, e in found.items() if name.endswith("tg")]
    assert max(tokens) <= 0.15  # generation, which every token of an answer pays


def test_a_layer_more_on_the_card_is_never_slower():
    rates = [error([*row[:3], 1.0]) for row in ROWS if row[0].startswith("6083")]
    assert rates == sorted(rates)
