"""Renderers: one report, five formats, the same numbers; files are written whole or not at all."""

from __future__ import annotations

import csv
import io
import stat

import pytest

COMMAND = "kvcache --model llama-3-8b --seq-len 8k --batch-size 3"


def test_every_format_has_the_same_numbers(llmcalc):
    want = {"kv_cache_bytes": 3 * 2**30, "bytes_per_token": 2**17}
    assert llmcalc(f"{COMMAND} --format json").results == want
    rows = list(csv.DictReader(io.StringIO(llmcalc(f"{COMMAND} --format csv").out)))
    assert {r["key"]: int(r["value"]) for r in rows} == want
    for name in ("table", "markdown", "latex"):
        text = llmcalc(f"{COMMAND} --format {name}").out
        assert "3,221,225,472" in text
        assert "3.00 GiB" in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_tables_fit_the_width(llmcalc, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (COMMAND, f"{COMMAND} --derive", "kvcache --model gemma-3-1b", "models llama"):
        lines = llmcalc(command).out.splitlines()
        assert max(map(len, lines)) <= width


def test_no_colour_off_a_terminal(llmcalc):
    assert "\x1b" not in llmcalc(COMMAND).out


def test_output_is_written_whole(llmcalc, tmp_path):
    path = tmp_path / "out.json"
    ran = llmcalc(f"{COMMAND} --format json --output {path}")
    assert (ran.code, ran.out) == (0, "")
    assert path.read_text() == llmcalc(f"{COMMAND} --format json").out
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


def test_output_that_cannot_be_written_leaves_nothing(llmcalc, tmp_path):
    (tmp_path / "kept").write_text("kept")
    for target in (tmp_path, tmp_path / "missing" / "x", "/proc/nope/x", tmp_path / ("n" * 300)):
        ran = llmcalc("kvcache", "--output", target)
        assert ran.code == 2
        assert ran.err.startswith("error: --output")
        assert ran.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_bad_command_leaves_an_existing_file_alone(llmcalc, tmp_path):
    path = tmp_path / "kept"
    path.write_text("kept")
    assert llmcalc(f"kvcache --seq-len 0 --output {path}").code == 2
    assert path.read_text() == "kept"


def test_symbolic_prints_expressions(llmcalc):
    results = llmcalc("kvcache --model symbolic --seq-len n --batch-size B --symbols L=N_layer --format json").results
    assert results["kv_cache_bytes"] == "4*N_layer*B*n*d"


def test_json_is_one_object_with_the_contracts_keys(llmcalc):
    made = llmcalc(f"{COMMAND} --format json --derive").json
    assert {"schema", "command", "inputs", "results", "tree", "assumptions", "citations", "derivations"} <= set(made)
    assert made["schema"] == 1
    assert all({"key", "expression", "latex", "substituted", "value"} <= set(d) for d in made["derivations"])
    assert all(made["results"][d["key"]] == d["value"] for d in made["derivations"])


@pytest.mark.parametrize(("command", "heads", "first"), [
    ("gpus", ["GPU", "memory (bytes)", "bandwidth (bytes/s)", "bf16, dense (FLOP/s)"], "h100-nvl"),
    ("models", ["model", "type", "parameters"], "gpt2"),
    ("peft --model gpt2 --method all", ["method", "name", "rank", "trained (parameters)", "share (percent)"], "BitFit"),
])  # fmt: skip
def test_a_comparison_is_one_tidy_csv(llmcalc, command, heads, first):
    rows = list(csv.reader(io.StringIO(llmcalc(f"{command} --format csv").out)))
    assert rows[0][: len(heads)] == heads
    assert first in [row[0] for row in rows[1:]]
    assert {len(row) for row in rows} == {len(rows[0])}


def test_further_tables_are_named_and_can_be_had(llmcalc):
    ran = llmcalc("flops gpt2 --format csv")
    assert ran.out.startswith("key,value,unit,label\n")
    assert "--table 'By operator'" in ran.err
    rows = list(csv.reader(io.StringIO(llmcalc("flops gpt2 --table rules --format csv").out)))
    assert rows[0] == ["rule", "FLOPs", "error (percent)", "source"]
    assert llmcalc("peft --model gpt2 --method all --table results").out.startswith("key,value,unit,label\n")
    for bad in ("--table nothing", "--table", "--table rules --format json", "--standalone --format csv"):
        ran = llmcalc(f"flops gpt2 {bad}")
        assert ran.code == 2
        assert [line for line in ran.err.splitlines() if line.startswith("error:")]
