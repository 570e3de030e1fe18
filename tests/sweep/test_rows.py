"""Every row of a sweep is what the single command answers: all families, every command, without numpy too."""

from __future__ import annotations

import csv
import io
import json
import sys
from itertools import product

import numpy as np
import pytest

from estimator import api, presets
from estimator.errors import InputError
from estimator.models import load_model
from estimator.questions import ask
from estimator.sweep import compiled
from estimator.sweep.compiled import Compiled, plain
from estimator.sweep.run import question_of


def one_of_each_family():
    """The first preset of each family, by its config's model_type."""
    found = {}
    for name in presets.ids("models"):
        found.setdefault(presets.load_model_preset(name)[1]["config"]["model_type"], name)
    return sorted(found.values())


def held_to_single(command, model, options, ranges, count):
    """Rows at random: each as the single command; what was recorded, and how many were asked singly."""
    question, answer = question_of(command)
    first = {k: low for k, (low, _) in ranges.items()}
    made = Compiled(ask(question, model, {**options, **first}), answer, ranges)
    rng = np.random.default_rng(20)
    rows = {k: rng.integers(low, high + 1, count) for k, (low, high) in ranges.items()}
    asked = 0
    for places, found in made.rows(rows, count):
        where = np.arange(count) if places is None else places
        if any(isinstance(v, list) for v in found.values()):
            asked += len(where)
            continue
        for at, i in enumerate(where):
            row = {k: int(v[i]) for k, v in rows.items()}
            assert {k: plain(v, at) for k, v in found.items()} == made.single(row), row
    return made, asked


@pytest.mark.parametrize("name", one_of_each_family())
@pytest.mark.parametrize("mode", ["training", "inference"])
def test_memory_of_every_family(name, mode):
    model = load_model(name)
    if mode == "inference" and model.architecture.counted_only:
        mode = "training"
    most = min(model.architecture.max_positions or 3000, 3000)
    ranges = {"batch_size": (1, 6), "seq_len": (max(1, most // 2), most)}
    made, asked = held_to_single("memory", model, {"mode": mode}, ranges, 24)
    assert made.records
    assert asked < 24


@pytest.mark.parametrize(("command", "options", "ranges"), [
    ("memory", {"mode": "training", "method": "lora", "gpu": "h100", "checkpointing": "full"},
     {"batch_size": (1, 8), "seq_len": (1, 9000), "rank": (1, 256)}),
    ("memory", {"mode": "training", "method": "qlora", "recipe": "sft"}, {"batch_size": (1, 8), "rank": (1, 99)}),
    ("memory", {"mode": "training", "gpus": 8, "stage": 3}, {"batch_size": (1, 8), "seq_len": (1, 5000)}),
    ("memory", {"new_tokens": 100, "gpu": "rtx-4090", "quantization": "nf4"}, {"seq_len": (1, 20000)}),
    ("kvcache", {}, {"batch_size": (1, 90), "seq_len": (1, 10**6)}),
    ("kvcache", {"cache": "paged"}, {"batch_size": (1, 90), "seq_len": (1, 10**6), "shared_prefix": (1, 1)}),
    ("flops", {"mode": "training"}, {"batch_size": (1, 90), "seq_len": (1, 10**6)}),
    ("flops", {"mode": "decode"}, {"batch_size": (1, 90), "context": (1, 10**6)}),
    ("flops", {"mode": "training", "method": "lora"}, {"rank": (1, 300), "seq_len": (1, 10**6)}),
    ("peft", {"method": "lora"}, {"rank": (1, 4000)}),
    ("peft", {"method": "dora", "targets": "all-linear"}, {"rank": (1, 400)}),
])  # fmt: skip
def test_every_command(command, options, ranges):
    made, asked = held_to_single(command, load_model("llama-3-8b"), options, ranges, 64)
    assert made.records
    assert asked < 32


@pytest.mark.parametrize(("command", "options"), [
    ("zero", {"gpus": [8, 64], "stage": "all"}),
    ("train", {"gpu": "h100", "steps": 10, "batch_size": [1, 2], "seq_len": [512, 700]}),
    ("infer", {"gpu": ["h100", "rtx-4090"], "batch_size": [1, 3], "seq_len": [100, 2000]}),
    ("peft", {"method": ["lora", "ia3", "vera"]}),
    ("memory", {"mode": "training", "method": ["lora", "qlora"], "seq_len": range(100, 103)}),
    ("memory", {"images": 2, "image_size": 224, "seq_len": [900, 1000]}),
])  # fmt: skip
def test_every_row_is_the_single_answer(command, options):
    model = "gemma-3-12b-multimodal" if "images" in options else "gpt2"
    rows = list(api.sweep(command, model, **options).rows())
    swept = {k: v for k, v in options.items() if isinstance(v, list | range)}
    assert len(rows) == np.prod([len(v) for v in swept.values()])
    assert {tuple(row[k] for k in swept) for row in rows} == set(product(*swept.values()))
    for row in rows:
        given = {**options, **{k: row[k] for k in swept}}
        want = getattr(api, command)(model, **given).results()
        assert {k: v for k, v in row.items() if k not in swept or k in want} == {k: want.get(k) for k in row if (
            k not in swept or k in want)}  # fmt: skip


def test_without_numpy(monkeypatch):
    """The same rows, asked one by one."""
    options = {"mode": "training", "batch_size": [1, 2], "seq_len": range(100, 400, 100)}
    want = list(api.sweep("memory", "gpt2", **options).rows())
    monkeypatch.setitem(sys.modules, "numpy", None)
    found = api.sweep("memory", "gpt2", **options)
    assert isinstance(found["seq_len"], list)
    assert list(found.rows()) == want


def test_a_record_that_were_wrong_is_not_used(monkeypatch):
    """Each is held to single answers first."""
    monkeypatch.setattr(compiled.Evaluator, "rows", lambda self, columns: (
        np.ones(len(columns["seq_len"]), dtype=bool), lambda: dict.fromkeys(self.outputs, 7)))  # fmt: skip
    found = api.sweep("kvcache", "gpt2", seq_len=range(1, 40), keys=["kv_cache_bytes"])
    assert found["kv_cache_bytes"][4] == api.kvcache("gpt2", seq_len=5).results()["kv_cache_bytes"]


def test_columns():
    found = api.sweep("memory", "gpt2", keys=["fits", "peak.allocated_bytes"], gpu="t4", seq_len=range(8, 1000, 8))
    assert list(found.columns) == ["seq_len", "fits", "peak.allocated_bytes"]
    assert len(found) == 124
    assert found["peak.allocated_bytes"].dtype == np.int64
    assert set(found["fits"]) == {"yes"}


@pytest.mark.parametrize(("words", "says"), [
    ("memory --keys peak -b 1,2", "Did you mean peak.allocated_bytes"),
    ("memory -b 4:1", "ends before it begins"),
    ("memory -b 1,,2", "empty value"),
    ("memory -b 1:8:x1", "factor must be at least 2"),
    ("memory -b 1:2:0", "must be > 0"),
    ("memory -s 1:9m -b 1:9m", "too many"),
    ("memory -b 1,x", "is a letter"),
    ("memory -b 0,1", "must be > 0"),
    ("kvcash", "Did you mean 'kvcache'"),
    ("memory --format parquet", "add --output"),
    ("memory --format yaml", "unknown --format"),
    ("memory --method lora,lara --mode training", "lara"),
    ("memory -s 1,2 --output .", "is a directory"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(llmcalc, words, says):
    ran = llmcalc(f"sweep {words}")
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


def test_an_error_names_its_row():
    with pytest.raises(InputError, match=r"of 500 tokens \(at seq_len 500, shared_prefix 501\)"):
        api.sweep("kvcache", "gpt2", seq_len=[600, 500], shared_prefix=[501])
    with pytest.raises(InputError, match="at method lora, rank 0"):
        api.sweep("peft", "gpt2", method=["lora", "vera"], rank=[8, 0])


def test_formats(llmcalc, tmp_path):
    words = "sweep kvcache gpt2 --batch-size 1,2 --seq-len 100:300:100 --kv-dtype bf16,int8 --keys kv_cache_bytes"
    rows = list(csv.DictReader(io.StringIO(llmcalc(words).out)))
    found = llmcalc(f"{words} --format json").json
    assert (found["schema"], found["command"]) == (1, "sweep")
    assert [{k: str(v) for k, v in row.items()} for row in found["rows"]] == rows
    assert rows[0] == {"batch_size": "1", "seq_len": "100", "kv_dtype": "bf16", "kv_cache_bytes": "3686400"}
    place = tmp_path / "rows.csv"
    assert llmcalc(f"{words} --output {place}").out == ""
    assert place.read_text() == llmcalc(words).out
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]


def test_parquet_is_written_in_chunks(llmcalc, tmp_path, monkeypatch):
    """A stand-in for pyarrow: what is asked of it."""
    written = []

    class Writer:
        def __init__(self, place, schema):
            self.place, self.schema = place, schema

        def write_table(self, table):
            written.append(table)

        def close(self):
            with open(self.place, "w") as file:  # noqa: PTH123
                json.dump([list(t) for t in written], file)

    class Arrow:
        array = staticmethod(list)

        class table(dict):  # noqa: N801
            schema = None

            def cast(self, schema):
                return self

    arrow, parquet = Arrow(), type(sys)("pyarrow.parquet")
    parquet.ParquetWriter, arrow.parquet = Writer, parquet
    monkeypatch.setitem(sys.modules, "pyarrow", arrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    place = tmp_path / "rows.parquet"
    words = f"sweep kvcache gpt2 --seq-len 1:20000 --keys kv_cache_bytes --format parquet --output {place}"
    assert llmcalc(words).code == 0
    assert len(written) == 2
    assert sum(len(t["seq_len"]) for t in written) == 20000
    assert json.loads(place.read_text()) == [["seq_len", "kv_cache_bytes"]] * 2


def test_without_pyarrow(llmcalc, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = llmcalc(f"sweep memory --format parquet --output {tmp_path / 'x.parquet'}")
    assert "needs pyarrow: pip install" in ran.err


def test_ranges_with_dots(llmcalc):
    """As `plan --gpus 1..8` has them."""
    rows = [
        llmcalc(f"sweep kvcache --seq-len {text} --keys kv_cache_bytes --format json").json["rows"]
        for text in ("1..4", "1:4", "1,2,3,4")
    ]
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0]) == 4


@pytest.mark.parametrize("options", [
    {}, {"recipe": "torch-mixed"}, {"recipe": "deepspeed", "gpu": "h100-sxm"}, {"gpu": "gb200", "zero_pp": "qgz"},
    {"recipe": "megatron", "gpu": "a100-80gb", "method": "lora", "batch_size": 2},
])  # fmt: skip
def test_a_million_gpus_are_a_few_records(options):
    """``sweep zero --gpus 1:1000000`` asked for every row: over a quarter of an hour."""
    options = options if "zero_pp" not in options else options | {"stage": "3"}
    made, asked = held_to_single("zero", "llama-3.2-1b", options, {"gpus": (300, 10**6)}, 400)
    assert len(made.records) < 4
    assert not asked
    few, asked = held_to_single("zero", "llama-3.2-1b", options, {"gpus": (1, 40)}, 40)
    assert few.records or asked == 40
