"""Memory, speeds and counts that others published, found after the program was written: what it errs by on each kind.

``public_figures.json``: sources, settings and figures. Counts are equal; the rest has the errors that are held here.
"""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median

import pytest

from estimator.cli import run

DATA = json.loads((Path(__file__).parent / "public_figures.json").read_text())
# group: median and largest error
BOUNDS = {
    "mem-trainer": (0.01, 0.065), "mem-litgpt": (0.21, 0.3), "mem-axolotl": (0.12, 0.32),
    "speed-trainer": (0.15, 0.65), "speed-foundry": (0.17, 0.43), "speed-megatron": (0.16, 0.52),
}  # fmt: skip


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """A function that gives (source, options, ours, published) of a group's rows."""
    at = tmp_path_factory.mktemp("configs")
    for name, config in DATA["models"].items():
        (at / f"{name}.json").write_text(json.dumps(config))

    def of(group, keep=lambda source, options: True):
        out = []
        for source, kind, options, key, published in DATA["rows"]:
            if kind != group or not keep(source, options):
                continue
            words = [str(at / f"{w}.json") if w in DATA["models"] else w for w in options.split()]
            with redirect_stdout(StringIO()) as text:
                assert run([*words, "--format", "json"]) == 0
            out.append((source, options, json.loads(text.getvalue())["results"][key], published))
        return out

    return of


def spread(rows):
    off = sorted(abs(ours / published - 1) for _, _, ours, published in rows)
    print(len(off), [round(x, 3) for x in off])
    return median(off), off[-1]


def test_counts(figures):
    """33 printed numbers of trainable parameters, of Unsloth's, peft's, litgpt's and Meta's."""
    rows = figures("exact")
    assert len(rows) == 33
    assert all(ours == published for _, _, ours, published in rows)


@pytest.mark.thorough
@pytest.mark.parametrize("group", BOUNDS)
def test_errors(figures, group):
    mid, worst = spread(figures(group))
    assert mid < BOUNDS[group][0]
    assert worst < BOUNDS[group][1]


def test_litgpt_in_16_bits(figures):
    """litgpt's LoRA over weights in 16 bits, of six kinds of models: its own GELU and attention, not transformers'."""
    mid, worst = spread(figures("mem-litgpt", lambda _, options: "--quantization" not in options))
    assert mid < 0.05
    assert worst < 0.1


def test_logits_before_4_46(figures):
    """A model of transformers 4.45 widens its logits itself and lets the narrow ones go: 2 bytes of 16 a logit."""
    rows = figures("mem-trainer", lambda source, _: source == "fms-granite")
    assert len(rows) == 14
    assert spread(rows)[1] < 0.035


def test_adapters_of_the_models_width(figures):
    """Megatron's LoRA of 70 billion parameters, on queries, keys and values: 16-bit adapters, on tensor cores."""
    rows = figures("speed-megatron", lambda _, options: "--method lora" in options)
    assert len(rows) == 3
    assert spread(rows)[0] < 0.04
    assert spread(rows)[1] < 0.2
