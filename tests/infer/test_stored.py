"""What the products of stored weights run in: an ideal that real engines have beaten is no ideal."""

from __future__ import annotations

import pytest

from estimator import api


def prefill(**options: object) -> dict[str, object]:
    found: dict[str, object] = api.infer("llama-3.1-70b", **options).results()
    return found


def test_nvfp4_is_multiplied_as_it_is_on_blackwell():
    same = {"quantization": "nvfp4", "kv_dtype": "fp8", "engine": "fused", "batch_size": 4096, "seq_len": 2048,
            "new_tokens": 128}  # fmt: skip
    # TensorRT-LLM 1.0 on one B200: 1,339 generated tokens/s of 128 after 2,048, so 21,424 prompt tokens/s
    assert prefill(gpu="b200", **same)["prefill_seconds.ideal"] <= 4096 * 2048 / 21_424
    hopper = prefill(gpu="h200", **same)["prefill_seconds.ideal"]
    assert hopper == prefill(gpu="h200", **same | {"quantization": "int4"})["prefill_seconds.ideal"]


@pytest.mark.parametrize(("scheme", "faster"), [("fp8", True), ("w8a8", True), ("awq", False), ("nf4", False)])
def test_8_bit_products_are_twice_as_fast_where_the_card_has_them(scheme, faster):
    same = {"gpu": "h100-sxm", "engine": "fused", "batch_size": 64, "seq_len": 2048, "gpus": 4}
    plain = prefill(**same)["prefill_seconds.ideal"]
    assert (prefill(**same, quantization=scheme)["prefill_seconds.ideal"] < 0.7 * plain) == faster


@pytest.mark.parametrize(("model", "options", "stored"), [
    ("gpt-oss-20b", {}, "mxfp4"), ("deepseek-v3", {}, "fp8-block"), ("llama-3.1-8b", {"quantization": "nf4"}, "nf4"),
    ("llama-3.1-8b", {}, "bf16"), ("llama-3.1-8b", {"dtype": "fp16"}, "fp16"),
    ("gpt-oss-20b", {"quantization": "none"}, "bf16"),
])  # fmt: skip
def test_the_title_says_what_the_weights_are_stored_in(model, options, stored):
    assert f" tokens in {stored} on 1 x " in api.infer(model, gpu="h100-sxm", **options).title
