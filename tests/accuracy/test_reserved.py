"""``--allocator simulated``: what the allocator reserves, beside training steps that were measured on one GPU.

``python -m tests.accuracy.test_reserved`` goes through all of them and prints the shares that
:data:`estimator.card.BLOCKS` states; the test takes every tenth.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from statistics import median

import pytest

from estimator.card import BLOCKS
from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.commands.memory.stack import micro_batches
from estimator.commands.validate.report import RECIPES
from estimator.commands.validate.report import options_of as case_options
from estimator.config import Config
from estimator.models import Model, load_model
from estimator.moments.pooled import play, pooled
from estimator.questions import ask
from tests.accuracy.test_stacks import cases, options_of


def runs():
    """(id, question, what was handed out, what was reserved) of every training step of the four files."""
    for name in ("gpu_memory", "gpu_memory_more"):
        data = json.loads(gzip.decompress(Path(__file__).with_name(f"{name}.json.gz").read_bytes()))
        for c in data["cases"]:
            if c["kind"] == "train":
                model = Model(c["model"], "file", Config(data["configs"][c["model"]]))
                asked = case_options(c) | {"mode": "training", "recipe": RECIPES[c["precision"]]}
                yield c["id"], (model, asked), c["measured"]["peak"], c["measured"]["reserved"]
    for name in ("stacks", "stacks_more"):
        for c in cases(name):
            if "--compile" not in c["options"] and "reserved" in c["measured"]:
                model = Model(c["id"], "file", Config(c["config"]))
                measured = c["measured"]
                yield c["id"], (model, options_of(c["options"])), measured["peak_allocated"], measured["reserved"]


def errors(found):
    """(id, relative error of what is handed out, measured over predicted reserved bytes)."""
    for ident, (model, options), allocated, reserved in found:
        q = ask(Memory, model, options)
        p = plan(q)
        got = pooled(p.arch, p.load, micro_batches(q))
        yield ident, got.allocated / allocated - 1, reserved / got.reserved


def test_micro_batches_are_played_until_they_repeat(monkeypatch):
    q = ask(Memory, load_model("pythia-14m"), {"mode": "training", "seq_len": 64})
    p = plan(q)
    few, played = pooled(p.arch, p.load, 6), []
    monkeypatch.setattr("estimator.moments.pooled.play", lambda *args: played.append(1) or play(*args))
    assert pooled(p.arch, p.load, 10**9) == few
    assert len(played) <= 12  # three steps: a first pass, and others until one changes nothing


@pytest.mark.thorough
def test_blocks():
    found = list(errors(list(runs())[::10]))
    print(sorted(found, key=lambda x: -abs(x[2] - 1))[:4])
    low, _, high = (float(x) for x in BLOCKS)
    inside = [low <= ratio <= high for _, _, ratio in found]
    assert len(found) == 36
    assert median(abs(e) for _, e, _ in found) <= 0.0003
    assert median(abs(ratio - 1) for _, _, ratio in found) <= 0.008
    assert sum(inside) >= 0.85 * len(inside)


def main() -> None:
    found = list(errors(runs()))
    handed, ratios = sorted(abs(e) for _, e, _ in found), sorted(r for _, _, r in found)
    n = len(found)
    print(n, "runs; handed out: median", handed[n // 2], "95%", handed[int(0.95 * n)], "worst", handed[-1])
    shares = [ratios[int(share * n)] for share in (0.05, 0.5, 0.95)]
    print("measured over predicted reserved: 5%, median, 95%:", shares)
    print("median distance from 1:", median(abs(r - 1) for r in ratios), "range", ratios[0], ratios[-1])


if __name__ == "__main__":
    main()
