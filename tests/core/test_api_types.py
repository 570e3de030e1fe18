"""The types of the API: every option is in its signature, and a type checker finds what is wrong."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from estimator import api

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("stubs", ROOT / "docs" / "stubs.py")
stubs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stubs)

USED = """
from estimator import api

report: api.Report = api.memory("llama-3-8b", mode="training", method="lora", gpu="rtx-4090", packing=True)
report = api.peft("gpt2", "lora", 8, ["c_attn"], args={"use_dora": True})
report = api.zero(params="7.5e9", gpus=64)
report = api.kvcache("gpt2", batch_size=2)
print(report.value("kv_cache_bytes"), api.load_gpu("h100-sxm").id)
"""
WRONG = {
    'api.memory("gpt2", batchsize=2)': "batchsize",
    'api.flops("gpt2", mode=["forward"])': "mode",
    'api.train("gpt2", packing="yes please")': "packing",
    "api.memory(3.5)": "Argument 1",
}


def test_the_signatures_are_fresh(update_golden):
    """Renew them: python docs/stubs.py."""
    if update_golden:
        stubs.STUB.write_text(stubs.stub())
    assert stubs.STUB.read_text() == stubs.stub()


@pytest.mark.thorough
def test_a_type_checker_takes_what_runs_and_finds_what_does_not(tmp_path):
    (tmp_path / "used.py").write_text(USED)
    lines = "\n".join(["from estimator import api", *WRONG])
    (tmp_path / "wrong.py").write_text(lines + "\n")
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--follow-imports=silent",
         str(tmp_path / "used.py"), str(tmp_path / "wrong.py")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line for line in ran.stdout.splitlines() if ": error:" in line]
    assert [line for line in found if "used.py" in line] == []
    for number, (call, word) in enumerate(WRONG.items(), 2):
        assert any(f"wrong.py:{number}:" in line and word in line for line in found), (call, ran.stdout)


def test_a_question_that_is_asked_wrongly_is_the_programs_own_error():
    for function, options in ((api.memory, {"model": "gpt-two"}), (api.kvcache, {"model": "gpt2", "seq_len": "long"}),
                              (api.peft, {"model": "gpt2", "method": "lorra"})):  # fmt: skip
        with pytest.raises(api.LlmcalcError):
            function(**options)
    report = api.kvcache("gpt2", seq_len=1024)
    assert report.value("kv_cache_bytes") == 37_748_736
    with pytest.raises(api.InputError, match="Did you mean 'kv_cache_bytes'"):
        report.value("kv_cache_byte")
    assert str(report).startswith("KV cache of gpt2: 1 x 1,024 tokens")
    assert repr(report) == "<Report of kvcache: KV cache of gpt2: 1 x 1,024 tokens in bf16, dynamic>"
