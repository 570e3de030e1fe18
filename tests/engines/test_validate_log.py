"""Start-up logs of servers beside what is computed.

The lines are those that the engines print, the figures a public log's (llm-d-planner, Llama-3.1-8B on an H100, vLLM
0.19.0) and a published one of SGLang 0.4.4 (Gemma 3 4B on an H200).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from estimator.commands.validate.report import validate
from estimator.engines.logs import parse
from estimator.errors import InputError

VLLM = """
INFO 04-01 10:00:00 [utils.py:233] non-default args: {'model': 'meta-llama/Llama-3.1-8B-Instruct', \
'max_model_len': 8192, 'gpu_memory_utilization': 0.95}
INFO 04-01 10:00:05 [core.py:97] Initializing a V1 LLM engine (v0.19.0) with config: \
model='meta-llama/Llama-3.1-8B-Instruct', dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, \
pipeline_parallel_size=1, quantization=None, kv_cache_dtype=auto
INFO 04-01 10:01:00 [gpu_model_runner.py:4364] Model loading took 14.99 GiB memory and 5.1 seconds
INFO 04-01 10:01:40 [gpu_worker.py:423] Available KV cache memory: 58.11 GiB
INFO 04-01 10:01:41 [kv_cache_utils.py:1314] GPU KV cache size: 476,000 tokens
INFO 04-01 10:01:41 [kv_cache_utils.py:1319] Maximum concurrency for 8,192 tokens per request: 58.11x
INFO 04-01 10:02:00 [gpu_model_runner.py:5256] Graph capturing finished in 9 secs, took 0.91 GiB
"""
SGLANG = """
[2025-03-12] server_args=ServerArgs(model_path='google/gemma-3-4b-it', mem_fraction_static=0.836, tp_size=1, \
context_length=8192, kv_cache_dtype='auto')
[2025-03-12 TP0] KV Cache is allocated. #tokens: 834615, K size: 54.12 GB, V size: 54.12 GB
"""


def write(folder: Path, text: str) -> str:
    path = folder / "server.log"
    path.write_text(text)
    return str(path)


def test_a_log_of_vllm_is_met(tmp_path: Path) -> None:
    got = validate(write(tmp_path, VLLM), model="llama-3.1-8b", gpu="h100-sxm").results()
    assert got["kv_tokens.log"] == 476000
    assert abs(got["kv_tokens.error"]) < 0.05
    assert abs(got["weights_bytes.error"]) < 0.05
    assert abs(got["pool_bytes.error"]) < 0.05
    assert got["max_concurrency.of_pool"] == pytest.approx(58.11, abs=0.01)


def test_without_a_card_the_logs_pool_is_taken(tmp_path: Path) -> None:
    got = validate(write(tmp_path, VLLM), model="llama-3.1-8b").results()
    assert "pool_bytes" not in got
    assert abs(got["kv_tokens.error"]) < 0.05


def test_options_are_read_as_the_engines_print_them() -> None:
    log = parse(VLLM)
    assert log is not None
    assert log.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert log.options == {
        "max_model_len": "8192", "tensor_parallel": "1", "pipeline_parallel": "1", "gpu_memory_utilization": "0.95",
        "engine_version": "0.19.0", "dtype": "bf16",
    }  # fmt: skip
    other = parse(SGLANG)
    assert other is not None
    assert (other.engine, other.options["mem_fraction_static"]) == ("sglang", "0.836")


def test_a_log_of_sglang_is_met(tmp_path: Path) -> None:
    got = validate(write(tmp_path, SGLANG), model="gemma-3-4b-multimodal", gpu="h200", engine_version="0.4.4").results()
    assert abs(got["kv_tokens.error"]) < 1


@pytest.mark.parametrize("text", ["", "no log at all", "Model loading took 14.99 GiB memory"])
def test_what_is_no_log_or_names_no_model_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"not JSON|names no model"):
        validate(write(tmp_path, text))
