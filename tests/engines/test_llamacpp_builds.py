"""What builds of llama.cpp print: a small model from build 7079 to 11549, and public logs of two cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimator import api
from estimator.commands.validate.report import load_log
from estimator.engines.llamacpp import log
from estimator.units import KIBI

HERE = Path(__file__).parent
MIB = KIBI**2
BUILDS = json.loads((HERE / "llamacpp_builds.json").read_text())
LOGS = json.loads((HERE / "llamacpp_two_cards.json").read_text())["logs"]


def written(folder, config):
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize("build", BUILDS["records"])
def test_each_build_allocates_what_it_prints(build, tmp_path):
    model = written(tmp_path, BUILDS["config"])
    for case, want in BUILDS["records"][build].items():
        c = json.loads(case)
        found = api.memory(
            model, engine="llama.cpp", quantization="f16", engine_version=f"b{build}", ctx_size=c["ctx"],
            parallel=c["parallel"], flash_attn="on" if c["flash"] else "off", kv_dtype=c["type"],
        ).results()  # fmt: skip
        assert round(found["kv_cache_bytes"] / MIB, 2) == want["KV"], case
        assert round(found["compute_bytes"] / MIB, 2) == want["compute"], case


def places(node):
    """(label, bytes by kind) of the devices and the host of a report."""
    if node.label.startswith("device ") or node.key == "host_bytes":
        yield {c.label: round(c.value / MIB, 2) for c in node.children}
    for child in node.children:
        yield from places(child)


@pytest.mark.parametrize("record", LOGS, ids=[r["source"][:40] for r in LOGS])
def test_two_cards_hold_what_their_logs_say(record, tmp_path):
    model = record.get("model") or written(tmp_path, record["config"])
    report = api.memory(model, engine="llama.cpp", **record["argv"])
    *devices, host = (place for node in report.body for place in places(node))
    for i, device in enumerate(devices):
        for key, label in (("kv", "KV cache"), ("compute", "compute buffer"), ("weights", "weights")):
            if key in record and record[key][i] is not None:
                assert device[label] == record[key][i], (key, i)
    if "host" in record:
        assert host["compute buffer"] == record["host"]


def test_micro_batches_overlap_only_where_devices_hold_everything():
    asked = {"quantization": "q4_k_m", "ctx_size": 32768, "gpu": "rtx-3090,rtx-3060"}
    whole = api.memory("qwen3-30b-a3b", **asked).results()["compute_bytes"]
    for less in ({"gpu_layers": "40"}, {"cpu_moe": "4"}, {"no_kv_offload": True}):
        made = api.memory("qwen3-30b-a3b", **asked, **less)
        assert made.results()["compute_bytes"] < whole


def test_a_file_that_is_loaded_twice_counts_once():
    """Build 7827 first loads without allocating, to see whether it fits."""
    found = load_log(str(HERE / "llamacpp_twice.log")).results()
    assert found["lines"] == found["equal"] == 6


def test_a_log_of_two_cards_is_predicted_card_by_card():
    text = (HERE / "llamacpp_qwen3.log").read_text()
    lines = [
        "load_tensors: offloaded 6/6 layers to GPU",
        "llama_kv_cache:      CUDA0 KV buffer size =    17.00 MiB",
        "llama_kv_cache:      CUDA1 KV buffer size =    25.50 MiB",
    ]
    kept = [x for x in text.splitlines() if "buffer size" not in x]
    rows = log.validate("log", "\n".join([*kept, *lines])).body[0].rows
    found = {row[0]: row for row in rows}
    assert found["CUDA0 KV buffer"][3] == found["CUDA1 KV buffer"][3] == "equal"


def test_an_encoders_log_is_read():
    """The server of build 11549 loads a BERT of random numbers for embeddings: no cache, the mean of the rows."""
    found = load_log(str(HERE / "llamacpp_bert.log")).results()
    assert found["lines"] == found["equal"] == 4


@pytest.mark.parametrize(("name", "lines"), [("t5", 6), ("t5encoder", 6), ("rwkv6qwen2", 5)])
def test_logs_of_files_without_a_plain_cache_are_read(name, lines):
    """Build 11549 loads files of zeros (benchmarks/llamacpp_files.py); of the log what says sizes is kept."""
    found = load_log(str(HERE / f"llamacpp_{name}.log")).results()
    assert found["lines"] == found["equal"] == lines
