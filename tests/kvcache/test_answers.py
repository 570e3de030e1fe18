"""Homework expressions, complexity, what fits, and one line for each bad input."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.commands.kvcache import fit
from estimator.commands.kvcache.plan import plan
from estimator.commands.kvcache.question import KVCache
from estimator.commands.kvcache.report import kvcache
from estimator.formulas import kvcache as f
from estimator.kv.layers import ripple
from estimator.models import load_model


def derived(ran, key):
    found = {d["key"]: d["expression"] for d in ran.json["derivations"]}
    names = {n: sympy.Symbol(n, positive=True, integer=True) for n in ("L", "H", "m", "T", "d_k", "bytes", "d")}
    return sympy.sympify(found[key], locals=names), names


def test_homework_bytes(llmcalc):
    """2 L H (m + T) d_k bytes: the document leaves out the factor 2 for keys and values."""
    ran = llmcalc(
        "kvcache --model symbolic --set head_dim=128 --seq-len m --new-tokens T --kv-dtype bytes "
        "--symbols h=H,d_h=d_k --derive --format json"
    )
    got, n = derived(ran, "kv_cache_bytes")
    assert sympy.simplify(got - 2 * n["L"] * n["H"] * (n["m"] + n["T"]) * n["d_k"] * n["bytes"]) == 0


def test_homework_time(llmcalc):
    """O(L d T^3) without a cache and O(L d T^2) with one; with the projections L(d^2 T^2 + d T^3), L(d^2 T + d T^2)."""
    ran = llmcalc("kvcache --model symbolic --seq-len m --new-tokens T --complexity --derive --format json")
    results = ran.results
    assert results["complexity.scores_without"] == "O(L d T^3)"
    assert results["complexity.scores_with"] == "O(L d T^2)"
    for key, power in (
        ("uncached_score", (1, 3)),
        ("cached_score", (1, 2)),
        ("uncached_weight", (2, 2)),
        ("cached_weight", (2, 1)),
    ):
        got, n = derived(ran, f"complexity.{key}_macs")
        poly = sympy.Poly(sympy.expand(got), n["L"], n["d"], n["T"])
        top = max(poly.monoms(), key=lambda m: m[2])
        assert top == (1, *power)


@pytest.mark.parametrize(("m", "T"), [(1, 1), (5, 1), (7, 9), (100, 50)])
def test_complexity_counted_out(m, T):
    uncached = sum(n * (n + 1) // 2 for n in range(m, m + T))
    assert f.uncached_score_macs(3, m, T) == 3 * uncached
    assert f.uncached_weight_macs(11, 2, m, T) == sum(11 * n + 2 for n in range(m, m + T))
    fed = m + T - 1
    assert f.cached_score_macs(3, m, T) == 3 * sum(range(1, fed + 1))
    assert f.cached_weight_macs(11, 2, m, T) == 11 * fed + 2 * T


def test_complexity_of_a_model():
    got = kvcache(load_model("gpt2"), 1, 100, new_tokens=1, complexity=True).results()
    assert got["complexity.uncached_macs"] == got["complexity.cached_macs"]
    assert got["complexity.cached_weight_macs"] == 100 * 12 * 12 * 768**2 + 768 * 50257


@pytest.mark.parametrize("name", ["llama-3-8b", "gemma-3-1b", "deepseek-v2-lite", "jamba-v0.1", "t5-small"])
@pytest.mark.parametrize("workspace", ["none", "3GiB"])
def test_fit_is_exact(name, workspace):
    model = load_model(name)
    report = kvcache(model, 2, 3000, gpu="h100-sxm", workspace=workspace, quantization="nf4")
    got = report.results()
    extra = 0 if workspace == "none" else 3 * 1024**3
    for key, sizes in (("max_tokens", lambda n: (2, n)), ("max_batch", lambda n: (n, 3000))):
        most = got[key]
        if most is None:
            continue

        def held(n, sizes=sizes):
            b, s = sizes(n)
            return kvcache(model, b, s).results()["kv_cache_bytes"] + extra

        assert most == 0 or held(most) <= got["free_bytes"]
        assert got["free_bytes"] < held(most + 1)


def test_fit_beside_the_workspace():
    with_, without = (
        kvcache(load_model("llama-3-8b"), 1, 8192, gpu="h100-sxm", workspace=w).results() for w in ("simulated", "none")
    )
    assert 0 < with_["max_tokens"] < without["max_tokens"]
    assert with_["workspace_bytes"] > 0


def test_a_bounded_cache_has_no_longest_context():
    assert fit.longest(lambda n: 7, 7) is None
    assert fit.longest(lambda n: 8, 7) == 0
    assert fit.longest(lambda n: n, 12345) == 12345
    got = kvcache(load_model("mamba-130m"), 1, 100, gpu="h100-sxm", workspace="none").results()
    assert got["max_tokens"] is None


@pytest.mark.parametrize(
    ("model", "how"),
    [("deepseek-v4-flash", {}), ("deepseek-v4-pro", {}), ("deepseek-v4-flash", {"cache": "paged", "block_size": 48}),
     ("gpt-oss-20b", {"cache": "paged", "block_size": 64}), ("mistral-7b-v0.1", {"cache": "paged"})],
)  # fmt: skip
def test_every_context_up_to_the_longest_fits(model, how):
    """512 tokens of DeepSeek-V4 take less than 511 (a pool's window that is full is one key, DeepseekV4HCACache), and a
    window that moves on may touch one paged block less: the longest is the last before the first that does not fit."""
    p = plan(KVCache(model=load_model(model), **how))
    held = [p.used(1, t) for t in range(1, 5200)]
    assert any(b < a for a, b in pairwise(held))
    wave = ripple(p.arch, partial(p.used, 1), how.get("block_size", 16) if how else 1)
    for t in range(5, 5000, 67):
        for room in (held[t - 1], held[t - 1] + 1000, held[t - 1] - 1000):
            most = next((n for n, size in enumerate(held) if size > room), None)
            assert fit.longest(partial(p.used, 1), room, wave) == most


def test_a_bounded_cache_that_fits_in_part_has_a_longest_context():
    p = plan(KVCache(model=load_model("mistral-7b-v0.1"), cache="paged"))
    held = [p.used(1, t) for t in range(1, 5200)]
    wave = ripple(p.arch, partial(p.used, 1), 16)
    assert fit.longest(partial(p.used, 1), max(held), wave) is None
    assert fit.longest(partial(p.used, 1), max(held) - 1, wave) == held.index(max(held))


@pytest.mark.parametrize("tokens", [128, 511, 512, 4096])
def test_one_more_token_of_pooled_keys_is_a_mean(tokens):
    """21 layers keep a key of 512 and an indexer's of 128 numbers for 4 tokens, 20 a key of 512 for 128, in 2 bytes."""
    got = kvcache(load_model("deepseek-v4-flash"), 1, tokens).results()
    assert got["bytes_per_token"] == 21 * (512 + 128) * 2 // 4 + 20 * 512 * 2 // 128


def test_pooled_keys_beside_windows():
    """41 of 43 layers keep 127 keys that are values too; of keys of 4 tokens the last four's values and gates stay."""
    got = kvcache(load_model("deepseek-v4-flash"), 1, 4096).results()["kv_cache_bytes"]
    windows = (41 + 2 * 2) * 127 * 512 * 2
    assert got == windows + 21 * (1024 * 2 + 4 * (2 + 4)) * (512 + 128) + 20 * 32 * 512 * 2


def test_the_largest_sequence_is_the_last_before_one_that_does_not_fit(llmcalc):
    def need(tokens):
        ran = llmcalc(f"memory --model deepseek-v4-flash --seq-len {tokens} --gpu 200GB --format json")
        return ran.json["results"]["need_bytes.low"]

    size = need(511)
    assert need(512) < size
    ran = llmcalc(f"memory --model deepseek-v4-flash --largest seq-len --gpu {size - 1}B --format json")
    assert ran.json["results"]["largest.seq_len"] == 510


def test_beyond_the_maximum_is_noted(llmcalc):
    ran = llmcalc("kvcache --model gpt2 --seq-len 2k")
    assert ran.code == 0
    assert "2,048 tokens exceed the model's max_position_embeddings of 1,024" in ran.err


def test_plot(llmcalc, tmp_path):
    assert "Growth with the context" in llmcalc("kvcache --model gpt2 --plot").out
    svg = tmp_path / "growth.svg"
    assert llmcalc("kvcache", "--model", "gpt2", "--plot", "--output", svg).code == 0
    assert svg.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--cache ring", "unknown --cache 'ring'"),
        ("--shared-prefix 9k", "longer than the sequences of 2,048 tokens"),
        ("--cache static --shared-prefix 16", "holds each sequence whole"),
        ("--kv-dtype nf4", "KV caches are not stored as nf4"),
        ("--cache quantized", "--cache quantized holds fp8, int8 or int4"),
        ("--block-size 16", "--block-size is of --cache paged"),
        ("--cache paged --block-size 0", "--block-size must be > 0"),
        ("--kv-group 64", "--kv-group is of int8 and int4 caches"),
        ("--complexity", "--complexity needs --new-tokens"),
        ("--workspace much --gpu h100-sxm", "--workspace"),
        ("--new-tokens -1", "--new-tokens must be > 0"),
        ("--model bert-base-uncased", "an encoder keeps no KV cache"),
        ("--model symbolic --gpu h100-sxm", "--gpu needs a model of known sizes"),
        ("--model symbolic --plot", "--plot needs a model of known sizes"),
        ("--model llama-3-8b --set num_kv_shared_layers=32", "num_kv_shared_layers must be less than the 32 layers"),
    ],
)
def test_bad_input(llmcalc, argv, says):
    ran = llmcalc(f"kvcache {argv}")
    assert ran.code == 2
    assert ran.out == ""
    line = [x for x in ran.err.splitlines() if not x.startswith("note: ")]
    assert len(line) == 1
    assert says in line[0]


@pytest.mark.parametrize("cache", ["dynamic", "static", "paged", "quantized"])
@pytest.mark.parametrize(
    "name", ["llama-3-8b", "gemma-3-1b", "deepseek-v2-lite", "jamba-v0.1", "t5-small", "qwen3-next-80b-a3b"]
)
def test_derived(llmcalc, cache, name):
    """A derivation that differed from its table would end with exit code 70."""
    kind = "int4" if cache == "quantized" else "bf16"
    assert (
        llmcalc(f"kvcache --model {name} --cache {cache} --kv-dtype {kind} -s 700 --new-tokens 200 --derive").code == 0
    )


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**5)), max_size=5),
       st.integers(0, 10**12), st.integers(1, 2**21))  # fmt: skip
def test_the_longest_of_any_need_that_never_shrinks(parts, room, block):
    """Lines, steps and blocks: exact, and asked seldom."""
    asked = 0

    def need(n):
        nonlocal asked
        asked += 1
        return sum(jump * (n >= at) + slope * max(0, n - at) for at, jump, slope in parts) + -(-n // block) * block

    found = fit.longest(need, room)
    assert asked < 130
    assert found == 0 or need(found) <= room
    assert need(found + 1) > room


def test_a_line_is_asked_few_times():
    asked = []
    assert fit.longest(lambda n: asked.append(n) or 131072 * n + 4_000_000, 60 * 2**30) == 491_489
    assert len(asked) <= 8
