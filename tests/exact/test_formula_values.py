"""Closed forms at sizes where each of their terms shows, worked out by hand from the sources that they cite."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import pytest
from sympy import Symbol

from estimator.formulas import kvcache, llamacpp, params, storage, workings, zero
from estimator.inventory import EMBEDDING, HEAD, LINEAR, POSITION, TOKEN_TYPE, Weight
from estimator.models import load_model
from estimator.trace import Traced


@pytest.mark.parametrize(
    ("s", "m", "d", "o", "numbers"),
    [
        (3, 4, 5, 0, 3 * 2 * 5),  # no window is full: 3 tokens' values and gates
        (3, 4, 5, 1, 3 * 2 * 2 * 5),  # overlapping windows: twice as wide, and no window before
        (11, 4, 5, 0, 2 * 5 + 3 * 2 * 5),  # two keys, three tokens over
        (11, 4, 5, 1, 2 * 5 + 3 * 2 * 2 * 5 + 4 * 5),  # the last window's values stay
        (4, 4, 5, 1, 5 + 4 * 5),
    ],
)
def test_pooled_keys(s, m, d, o, numbers):
    assert kvcache.pooled_numbers(s, m, d, o) == numbers
    gates = m * d if o and s >= m else 0
    assert kvcache.pooled_cache_bytes(2, 3, s, m, d, o, 16) == 2 * 3 * (numbers * 2 + gates * 4)
    assert kvcache.pooled_cache_bytes(1, 1, s, m, d, o, 4) == -(-(numbers * 4 + gates * 32) // 8)


def test_packed_weights():
    """100 inputs of 7 outputs: 100 is no multiple of 16, 32, 64 or 128."""
    assert storage.mxfp4_bytes(100, 7) == 7 * 4 * 17  # 32 codes are 16 bytes, and a scale
    assert storage.nvfp4_bytes(100, 7) == 7 * 7 * 9 + 4
    assert (storage.mxfp4_bytes(33, 1), storage.nvfp4_bytes(17, 1)) == (2 * 17, 2 * 9 + 4)
    assert storage.mlx_bytes(100, 7) == 7 * 13 * 4 + 7 * 2 * (2 + 2)  # 400 bits are 13 words; two groups of 64
    assert storage.mlx_bytes(100, 7, 3, 32) == 7 * 10 * 4 + 7 * 4 * (2 + 2)
    assert storage.hqq_bytes(64, 11, 5) == 32 * 11 + 5 * 4
    assert storage.hqq_bytes(65, 11, 5, 10, 4) == 4 * 7 * 11 + 5 * 4
    assert storage.torchao_int4_bytes(100, 7, 64) == 7 * 50 + 2 * 7 * 4
    assert storage.torchao_int4_bytes(101, 7, 32) == 7 * 51 + 4 * 7 * 4


def test_what_files_hold_unless_they_say_otherwise():
    """129 inputs are two groups of 128, and 129 x 129 weights four tiles."""
    assert storage.gptq_bytes(129, 8) == 4 * 17 * 8 + 4 * 2 * 1 + 2 * 2 * 8 + 4 * 129
    assert storage.gptq_bytes(128, 8) == 4 * 16 * 8 + 4 * 1 * 1 + 2 * 1 * 8 + 4 * 128
    assert storage.tiled_bytes(129, 129) == 129 * 129 + 4 * 4
    assert storage.tiled_bytes(128, 128) == 128 * 128 + 4
    assert storage.aqlm_bytes(64, 10) == 2**16 * 8 * 2 + 8 * 10 * 2 + 10 * 2  # a codebook, codes of 16 bits, scales
    assert storage.packed_int_bytes(128, 8) == 4 * 16 * 8 + 2 * 1 * 8 + 16  # no zero points
    assert llamacpp.gguf_output_bytes(3, 100) == 3 * 100 * 4
    assert llamacpp.gguf_output_bytes(3, 100, 7) == 3 * 107 * 4


def test_micro_batches_in_flight():
    """4 stages, many micro-batches, then few."""
    assert [zero.in_flight_1f1b(4, i, 99) for i in range(4)] == [4, 3, 2, 1]
    assert [zero.in_flight_interleaved(4, i, 99, 3) for i in range(4)] == [15, 13, 11, 9]
    assert [zero.in_flight_interleaved(4, i, 2, 3) for i in range(4)] == [6, 6, 6, 6]
    assert [zero.in_flight_zb_h2(4, i, 99) for i in range(4)] == [7, 5, 3, 1]
    assert [zero.in_flight_zb_h2(4, i, 3) for i in range(4)] == [3, 3, 3, 1]


class Weights:
    """A model that is only its weights."""

    def __init__(self, *weights: Weight) -> None:
        self.given, self.layers, self.routed = weights, (), None

    def weights(self) -> tuple[Weight, ...]:
        """As an architecture gives them."""
        return self.given


def test_tables_and_the_head():
    arch = Weights(
        Weight("a.weight", (10, 4), 1, EMBEDDING), Weight("b.weight", (6, 4), 1, POSITION),
        Weight("c.weight", (2, 4), 1, TOKEN_TYPE), Weight("d.weight", (4, 4), 3, LINEAR),
        Weight("head.weight", (10, 4), 1, HEAD), Weight("head.bias", (10,), 1, HEAD),
    )  # fmt: skip
    assert params.embedding_params(arch) == 40 + 24 + 8 + 40
    assert params.active_params(arch) == 40 + 24 + 8 + 48 + 40 + 10


def test_a_token_uses_its_experts():
    arch = load_model("mixtral-8x7b").architecture
    assert params.active_params(arch) == params.total_params(arch) - 6 * 32 * 3 * 4096 * 14336


def steps(name, *args):
    """(rule, what is counted) of every step."""
    return [(s.rule, [(i.names, i.parts, i.many) for i in s.items]) for s in getattr(workings, name)(*args)]


def test_workings_of_caches():
    same = steps("kv_cache_bytes", 3, 1, 5, 2, 4, 4, 16)
    assert len(same[0][1]) == 1
    assert same[0][1][0][:2] == (("keys", "values"), (("", (5, 2, 4)),))
    unlike = steps("kv_cache_bytes", 3, 7, 5, 2, 4, 6, 8)
    assert [i[:2] for i in unlike[0][1]] == [(("keys",), (("", (7, 5, 2, 4)),)), (("values",), (("", (7, 5, 2, 6)),))]
    assert [i[0] for i in steps("kv_cache_bytes", 3, 7, 5, 2, 4, 0, 8)[0][1]] == [("keys",)]
    assert (same[1][0], unlike[1][0]) == ("a number takes 16 bits", "a number takes 8 bits")
    latent = steps("mla_cache_bytes", 3, 1, 5, 11, 2, 16)
    assert [i[:2] for i in latent[0][1]] == [(("latent",), (("", (5, 11)),)), (("rotary key",), (("", (5, 2)),))]


def rounds_up(rows):
    """Whether the last step of a working says that its bytes are no whole number."""
    return "ceiling" in repr(rows[-1].form)


def test_workings_round_what_is_no_whole_number_of_bytes():
    """An even count of 4-bit numbers, and a multiple of 4 of 2-bit ones, are whole bytes."""
    assert not rounds_up(workings.kv_cache_bytes(2, 1, 1, 1, 1, 0, 4))
    assert rounds_up(workings.kv_cache_bytes(1, 1, 3, 1, 1, 0, 4))
    assert not rounds_up(workings.kv_cache_bytes(1, 1, 1, 1, 3, 1, 2))
    assert not rounds_up(workings.mla_cache_bytes(2, 1, 1, 1, 2, 4))
    assert rounds_up(workings.mla_cache_bytes(1, 1, 3, 3, 2, 4))
    assert not rounds_up(workings.mla_cache_bytes(1, 1, 1, 3, 1, 2))


def test_widths_that_are_letters_of_one_value_are_two():
    key, width = Traced(64, Symbol("d_k")), Traced(64, Symbol("d_v"))
    names = [i.names for i in workings.kv_cache_bytes(3, 1, 5, 2, key, width, 16)[0].items]
    assert names == [("keys",), ("values",)]


def came_to(form):
    """The number that a working's form writes."""
    if not hasattr(form, "op"):
        return form
    args = [came_to(a) for a in form.args]
    return {"+": sum, "*": prod, "()": sum, "-": lambda a: a[0] - a[1], "/": lambda a: a[0] / a[1],
            "**": lambda a: a[0] ** a[1]}[form.op](args)  # fmt: skip


def test_workings_of_drafts():
    """4 drafts at a tenth of a pass, half of them taken: 1.9375 tokens a pass of 1.4, or of 5.4 tokens' operations."""
    at = Fraction(1, 2), 4, Fraction(1, 10)
    tokens, time, work = Fraction(31, 16), Fraction(7, 5), Fraction(27, 5)
    assert [came_to(s.form) for s in workings.speculative_speedup(*at)] == [tokens, time, tokens / time]
    assert [came_to(s.form) for s in workings.speculative_operations(*at)] == [work, work / tokens]


def test_workings_of_shares():
    assert "ceiling" in repr(workings.sharded_bytes(10, 4, 2))
    assert "ceiling" not in repr(workings.sharded_bytes(12, 4, 2))
    assert "ceiling" not in repr(workings.sharded_bytes(3, 1, 2))
