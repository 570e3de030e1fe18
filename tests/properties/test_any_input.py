"""Whatever config and options a user gives: a clean answer, or one line and exit code 2; never a traceback."""

from __future__ import annotations

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estimator import presets
from estimator.cli import run

BASES = [
    "gpt2", "llama-3-8b", "mixtral-8x7b", "deepseek-v2-lite", "gemma-3-1b", "t5-small", "bert-base-uncased",
    "mamba-130m", "jamba-v0.1", "qwen3-next-80b-a3b", "gpt-oss-20b", "falcon-7b",
]  # fmt: skip
COMMANDS = [
    ["memory"],
    ["memory", "--mode", "training", "--seq-len", "128"],
    ["memory", "--mode", "training", "--method", "lora", "--checkpointing", "full", "--seq-len", "128"],
    ["peft", "--method", "lora", "--targets", "all-linear"],
    ["peft", "--method", "prefix_tuning"],
    ["zero", "--gpus", "8", "--stage", "all"],
    ["kvcache", "--seq-len", "300"],
    ["kvcache", "--derive"],
    ["flops", "--seq-len", "64", "--mode", "training"],
    ["flops", "--mode", "decode", "--context", "64"],
]
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.sampled_from([0, 1, 10**6, 10**13, 2**70, 10**400]),
    st.floats(allow_nan=True, allow_infinity=True), st.text(max_size=5), st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@st.composite
def configs(draw):
    config = copy.deepcopy(presets.load_model_preset(presets.find("models", draw(st.sampled_from(BASES))))[1]["config"])
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from(sorted(config)))
        config[field] = draw(ODD)
    if draw(st.booleans()):
        config.pop(draw(st.sampled_from(sorted(config))))
    return config


def dumps(config) -> str:
    return json.dumps(config)


@given(config=configs(), command=st.sampled_from(COMMANDS))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_config(config, command, tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(dumps(config))
    capsys.readouterr()
    code = run([*command, "--model", str(path), "--format", "json"])
    out, err = capsys.readouterr()
    assert code in (0, 2), err
    if code == 2:
        assert out == ""
        errors = [line for line in err.splitlines() if not line.startswith("note: ")]
        assert len(errors) == 1
        assert errors[0].startswith("error: ")
    else:
        results = json.loads(out)["results"]
        assert all(v is None or not isinstance(v, float) or math.isfinite(v) for v in results.values())


SIZES = st.sampled_from(
    ["0", "-1", "nan", "inf", "1e400", "", "  ", "1k", "2.5", "1GB", "x", "--", "१२", "1e-5", "0x10", "9" * 5000]
)


@pytest.mark.parametrize(
    "argv",
    [
        ["kvcache", "--seq-len"], ["kvcache", "--batch-size"], ["memory", "--seq-len"], ["memory", "--batch-size"],
        ["peft", "--rank"], ["zero", "--params"], ["zero", "--gpus"], ["flops", "--seq-len"],
        ["chinchilla", "--compute"], ["chinchilla", "--params"], ["train", "--tokens"], ["train", "--price"],
        ["infer", "--batch-size"],
    ],
    ids=" ".join,
)  # fmt: skip
@given(size=SIZES)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_size(argv, size, capsys):
    capsys.readouterr()
    code = run([*argv, size, "--format", "json"])
    out, err = capsys.readouterr()
    assert code in (0, 2), err
    if code == 2:
        assert out == ""
        assert next(line for line in err.splitlines() if not line.startswith("note: ")).startswith("error: ")
    else:
        json.loads(out)
