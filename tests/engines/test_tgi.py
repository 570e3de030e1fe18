"""TGI's blocks: public logs, its rules by version, what it does not have."""

from __future__ import annotations

import pytest

GIB = 2**30


def test_a_public_log(llmcalc):
    """github.com/huggingface/text-generation-inference/issues/653: Llama-2-7B in fp16 on an A10."""
    line = "kvcache llama-2-7b --engine tgi --gpu a10 --engine-version 1.0 --dtype fp16 --max-total-tokens 4096"
    assert llmcalc(f"{line} --format json").results["kv_tokens"] == pytest.approx(16224, rel=0.03)


def test_the_pool_by_version(llmcalc):
    line = "kvcache llama-3.1-8b --engine tgi --gpu h100-sxm --max-model-len 8k --max-batch-prefill-tokens 4096"
    line += " --format json --engine-version"
    found = {v: llmcalc(f"{line} {v}").results for v in ("1.0", "2.2", "2.4", "3.0", "3.1", "3.3")}
    free = found["1.0"]["pool_bytes"]
    assert abs(found["2.2"]["pool_bytes"] - free * 0.95) < 1
    assert abs(found["2.4"]["pool_bytes"] - free * 0.90) < 1
    total = found["1.0"]["budget_bytes"]
    free += found["1.0"]["activation_bytes"] - found["3.3"]["activation_bytes"]  # the prompt's logits, until 3.0
    assert found["1.0"]["activation_bytes"] - found["3.3"]["activation_bytes"] == 4096 * 128256 * 2 * 2
    for version, share in (("3.0", 0.95), ("3.1", 0.93), ("3.3", 0.90)):
        assert abs(found[version]["pool_bytes"] - (free - (1 - share) * total)) < 2
    for version, block in (("1.0", 16), ("2.2", 16), ("2.4", 1), ("3.3", 1)):
        r = found[version]
        assert r["kv_blocks"] == r["pool_bytes"] // (block * r["bytes_per_token"])
        assert r["kv_tokens"] == r["kv_blocks"] * block


@pytest.mark.parametrize(
    ("version", "gpu", "tokens"),
    [
        ("1.4", "h100-sxm", 4096),
        ("2.3", "h100-sxm", 8191 + 50),
        ("3.3", "h100-sxm", 900 * 10**12 // (32 * 2 * (3 * 32 + 2 * 8) * 128 * 4096 + 32 * 6 * 4096 * 14336)),
        ("3.3", "l4", 121 * 10**12 // (32 * 2 * (3 * 32 + 2 * 8) * 128 * 4096 + 32 * 6 * 4096 * 14336)),
        ("3.3", "rtx-4090", 4096),
    ],
)
def test_tokens_of_a_prefill_by_version_and_card(llmcalc, version, gpu, tokens):
    """launcher/src/main.rs: 4,096; the longest prompt and 50; a second's products over a token's."""
    line = f"kvcache llama-3.1-8b --engine tgi --max-total-tokens 8k --gpu {gpu} --engine-version {version} --detail"
    assert f"--max-batch-prefill-tokens not given: {tokens:,}" in " ".join(llmcalc(line).out.split())


@pytest.mark.parametrize(
    ("model", "gpu", "version", "block"),
    [("llama-3.1-8b", "l4", "2.2", 16), ("llama-3.1-8b", "l4", "3.3", 1), ("phi-2", "l4", "3.3", 256),
     ("phi-2", "t4", "3.3", 16)],
)
def test_blocks_by_the_kernel(llmcalc, model, gpu, version, block):
    """Phi-2's heads of 80 are not FlashInfer's: launcher/src/main.rs, resolve_attention."""
    line = f"kvcache {model} --engine tgi --max-total-tokens 1k --gpu {gpu} --engine-version {version} --format json"
    r = llmcalc(line).results
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
