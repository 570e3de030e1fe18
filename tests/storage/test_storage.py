"""Bytes of weights in every scheme: block layouts, which tensors stay, published file sizes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator import names, storage
from estimator.dtypes import ALIASES, FORMATS, GGML_TYPES, find_format
from estimator.errors import InputError
from estimator.formulas import storage as s
from estimator.models import load_model
from estimator.storage.gguf_mix import MIXES, more_bits
from estimator.trace import Traced

# name -> (elements, bytes) of a block: llama.cpp's gguf-py/gguf/constants.py GGML_QUANT_SIZES, evaluated
GGML_BLOCKS = {
    "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34), "q2_k": (256, 84),
    "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210), "q8_k": (256, 292),
    "iq2_xxs": (256, 66), "iq2_xs": (256, 74), "iq3_xxs": (256, 98), "iq1_s": (256, 50), "iq4_nl": (32, 18),
    "iq3_s": (256, 110), "iq2_s": (256, 82), "iq4_xs": (256, 136), "iq1_m": (256, 56), "tq1_0": (256, 54),
    "tq2_0": (256, 66), "mxfp4": (32, 17), "q1_0": (128, 18), "ggml_nvfp4": (64, 36),
}  # fmt: skip


def arch(name):
    return load_model(name).architecture


@pytest.mark.parametrize("name", GGML_BLOCKS)
def test_ggml_blocks(name):
    block, size = GGML_BLOCKS[name]
    assert FORMATS[name].block == block
    assert FORMATS[name].block_bits == 8 * size


def test_bits_a_weight():
    bits = {"nf4": 4.5, "mxfp4": 4.25, "nvfp4": 4.5, "q4_k": 4.5, "q6_k": 6.5625, "q8_0": 8.5, "fp8": 8, "int4": 4}
    assert {name: float(FORMATS[name].bits_per_weight) for name in bits} == bits


def test_names():
    assert all(find_format(alias).name == name for alias, name in ALIASES.items())
    assert not set(ALIASES) & set(FORMATS)
    assert set(GGML_TYPES.values()) <= set(FORMATS)
    assert set(MIXES.values()) <= set(FORMATS)
    assert not set(names.ALIASES["quantization"]) & set(storage.schemes())
    with pytest.raises(InputError, match="nf4"):
        find_format("nf5")


@pytest.mark.parametrize(
    ("formula", "args", "bytes_"),
    [
        (s.nf4_bytes, (4096 * 4096,), 4096 * 4096 // 2 + 4 * 262144),
        (s.nf4_dq_bytes, (4096 * 4096,), 4096 * 4096 // 2 + 262144 + 4 * 1024 + 4),
        (s.nf4_bytes, (65,), 33 + 8),
        (s.llm_int8_bytes, (4096, 1024), 4096 * 1024 + 4 * 1024),
        # GPTQ: qweight [512, 4096] i32, qzeros [32, 512] i32, scales [32, 4096] f16, g_idx [4096] i32
        (s.gptq_bytes, (4096, 4096), 4 * 512 * 4096 + 4 * 32 * 512 + 2 * 32 * 4096 + 4 * 4096),
        # AWQ: qweight [4096, 512] i32, qzeros [32, 512] i32, scales [32, 4096] f16
        (s.awq_bytes, (4096, 4096), 4 * 4096 * 512 + 4 * 32 * 512 + 2 * 32 * 4096),
        (s.tiled_bytes, (4096, 1024, 4096, 1024), 4096 * 1024 + 4),
        (s.tiled_bytes, (7168, 576), 7168 * 576 + 4 * 56 * 5),
        (s.mxfp4_bytes, (2880, 5760), 5760 * 90 * 17),
        (s.nvfp4_bytes, (4096, 1024), 1024 * 256 * 9 + 4),
    ],
)
def test_one_matrix(formula, args, bytes_):
    assert formula(*args) == bytes_


@pytest.mark.parametrize("quantization", ["none", *storage.schemes()])
@pytest.mark.parametrize(
    "name", ["gpt2", "llama-3-8b", "mixtral-8x7b", "gpt-oss-20b", "t5-small", "jamba-v0.1", "deepseek-v2-lite"]
)
def test_every_scheme_on_every_kind_of_model(name, quantization):
    a = arch(name)
    stored = storage.stored_weights(a, quantization)
    assert isinstance(stored.bytes, int)
    assert stored.bytes == sum(stored.by_format().values())
    names = {p.weight.name for p in stored.parts}
    assert names == {w.name for w in a.weights()}
    plain = storage.stored_weights(a).bytes
    assert 0 < stored.bytes <= plain * 1.02  # gguf keeps small tensors in fp32
    assert quantization == "none" or stored.notes


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt2", "bert-base-uncased"])
def test_what_bitsandbytes_leaves(name):
    for part in storage.stored_weights(arch(name), "nf4", "fp16").parts:
        linear = part.weight.role in ("linear", "conv1d") and len(part.weight.shape) == 2
        assert part.format == ("nf4" if linear else "fp16")


def test_experts():
    def formats(name, quantization):
        parts = storage.stored_weights(arch(name), quantization).parts
        return {p.format for p in parts if p.weight.role == "expert" and len(p.weight.shape) == 3}

    assert formats("mixtral-8x7b", "nf4") == {"bf16"}
    assert formats("mixtral-8x7b", "gptq") == {"gptq"}
    assert formats("gpt-oss-20b", "mxfp4") == {"mxfp4"}
    kept = [p for p in storage.stored_weights(arch("gpt-oss-20b"), "mxfp4").parts if p.weight.role != "expert"]
    assert {p.format for p in kept} == {"bf16"}


def test_gpt_oss_checkpoint():
    """openai/gpt-oss-20b: 24 layers of 32 experts, blocks [32, 5760, 90, 16] and [32, 2880, 90, 16]."""
    per_layer = 32 * (5760 + 2880) * 90 * 17
    assert storage.stored_weights(arch("gpt-oss-20b"), "mxfp4").by_format()["mxfp4"] == 24 * per_layer


def test_llama_2_7b_files():
    """The tensors of llama-2-7b.Q4_K_M.gguf (4,081,004,224 bytes with its header of 741 kB) and of Q8_0 (7.16 GB)."""
    a = arch("llama-2-7b")
    file = 4_081_004_224
    assert 0 < file - storage.stored_weights(a, "q4_k_m").bytes < 800_000
    assert storage.stored_weights(a, "q8_0").bytes / 1e9 == pytest.approx(7.16, abs=0.005)


def test_more_bits():
    assert [i for i in range(32) if more_bits(i, 32)] == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]


def test_rows_that_do_not_divide():
    """gpt-oss's rows of 2880 are no multiple of 256: llama.cpp falls back to blocks of 32, and it is said."""
    stored = storage.stored_weights(arch("gpt-oss-20b"), "q4_k_m")
    assert "q4_k" not in {p.format for p in stored.parts if p.weight.shape[-1] == 2880}
    assert any("fallback" in note for note in stored.notes)


def test_unknown_scheme():
    with pytest.raises(InputError, match="q4_k_m"):
        storage.stored_weights(arch("gpt2"), "q4_k_n")


@given(st.integers(1, 10**12), st.sampled_from(sorted(FORMATS)))
def test_whole_blocks(n, name):
    fmt = FORMATS[name]
    size = fmt.bytes(n)
    assert isinstance(size, int)
    assert n * fmt.bits_per_weight <= 8 * size <= (n + fmt.block) * fmt.bits_per_weight + 7 + fmt.tensor_bits
    assert fmt.bytes(n + 1) >= size


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20000), st.integers(1, 20000), st.sampled_from(sorted(storage.SCHEMES)))
def test_schemes_are_exact_in_a_traced_run(n_in, n_out, name):
    from sympy import Symbol

    size = storage.SCHEMES[name].layout.size
    letters = {"i": Symbol("i", positive=True, integer=True), "o": Symbol("o", positive=True, integer=True)}
    traced = size(Traced(n_in, letters["i"]), Traced(n_out, letters["o"]))
    assert traced.value == size(n_in, n_out)
    assert traced.expr.subs({letters["i"]: n_in, letters["o"]: n_out}) == traced.value
