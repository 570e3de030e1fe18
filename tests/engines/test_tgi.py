"""TGI's blocks: public logs, its rules by version, what it does not have."""

from __future__ import annotations

import pytest

GIB = 2**30


def test_a_public_log(llmcalc):
    """github.com/huggingface/text-generation-inference/issues/653: Llama-2-7B in fp16 on an A10."""
    line = "kvcache llama-2-7b --engine tgi --gpu a10 --engine-version 1.0 --dtype fp16 --max-total-tokens 4096"
    assert llmcalc(f"{line} --format json").results["kv_tokens"] == pytest.approx(16224, rel=0.03)


def test_the_pool_by_version(llmcalc):
    line = "kvcache llama-3.1-8b --engine tgi --gpu h100-sxm --max-model-len 8k --format json --engine-version"
    found = {v: llmcalc(f"{line} {v}").results for v in ("1.0", "2.2", "2.4", "3.0", "3.1", "3.3")}
    free = found["1.0"]["pool_bytes"]
    assert found["2.2"]["pool_bytes"] == int(free * 95 // 100) or abs(found["2.2"]["pool_bytes"] - free * 0.95) < 1
    assert abs(found["2.4"]["pool_bytes"] - free * 0.90) < 1
    total = found["1.0"]["budget_bytes"]
    for version, share in (("3.0", 0.95), ("3.1", 0.93), ("3.3", 0.90)):
        assert abs(found[version]["pool_bytes"] - (free - (1 - share) * total)) < 2
    for version, block in (("1.0", 16), ("2.2", 16), ("2.4", 1), ("3.3", 1)):
        r = found[version]
        assert r["kv_blocks"] == r["pool_bytes"] // (block * r["bytes_per_token"])
        assert r["kv_tokens"] == r["kv_blocks"] * block


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--pipeline-parallel 2", "TGI shards every layer"),
        ("--prefix-caching on", "--prefix-caching is no option of --engine tgi"),
        ("--model mamba2-2.7b", "recurrent layers"),
        ("--gpu v100-16gb", "needs compute capability 7.5"),
    ],
)
def test_what_it_does_not_have(llmcalc, options, says):
    ran = llmcalc(f"kvcache --engine tgi --gpu h100-sxm {options}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert says in ran.err
