"""What two ways of asking must agree on: states without activations, shards and wholes, letters and numbers, claims."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from estimator.models import load_model
from estimator.ops import ceil_div
from estimator.report import Cell, Table
from estimator.trace import value_of
from tests.properties.asked import SMALL, WIDE, lines, models, printed, report, results, some, surface_of
from tests.properties.holds import count

CAUSAL = tuple(
    m for m in (*SMALL, *WIDE) if m not in ("bert-base-uncased", "albert-base-v2", "t5-small", "flan-t5-small")
)
KEPT = (
    *(f"--checkpointing {c} --attention {a}" for c in ("none", "selective", "full") for a in ("eager", "sdpa")),
    "--activation-offload", "--activation-offload --checkpointing full",
)  # fmt: skip
# model types whose cross-attention, checkpointed, is given zeros for a position bias: they want a gradient and live
# with the named loss (T5Attention.forward of transformers 5.17)
ZEROS = ("t5", "mt5", "umt5")
CARDS = st.sampled_from(("h100-sxm", "rtx-4090", "t4", "a100-40gb"))


@pytest.mark.thorough
@given(
    models(),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([32, 64, 96, 300]),  # 64: Jamba's mask is as large as a norm's gradient
    st.sampled_from(["torch-bf16", "torch-mixed", "torch-fp32"]),
    st.sampled_from([[], ["--gpus", "2", "--stage", "2"], ["--gpus", "2", "--stage", "3"],
                     ["--gpus", "2", "--stage", "3", "--fsdp-version", "1"]]),
)  # fmt: skip
@some(20)
def test_the_step_holds_the_same_however_it_was_reached(model, b, s, recipe, shards):
    """Activations are gone at the optimizer's step, whatever was kept of them before, on the card or the host."""
    argv = ["memory", "--mode", "training", "--model", model, "--batch-size", str(b), "--seq-len", str(s),
            "--recipe", recipe, *shards]  # fmt: skip
    found = {}
    zeros = load_model(model).architecture.model_type in ZEROS
    for kept in (k for k in KEPT if not (zeros and "full" in k)):
        got = results([*argv, *kept.split()])
        if got is not None:
            found[kept] = got["moments.step_bytes"]
    assert len(set(found.values())) <= 1, (argv, found)
    count("the step's bytes do not depend on checkpointing, attention and offloading", len(found))


STATES = ("weights_bytes", "gradients_bytes", "optimizer_bytes")


def rounding(model, n):
    """Elements by which one GPU's rows of every tensor exceed an equal share."""
    weights = load_model(model).architecture.weights()
    return sum(w.times * (ceil_div(w.shape[0], n) * (w.elements // w.shape[0]) - w.elements // n) for w in weights)


@cache
def on_one(model, recipe):
    return results(["zero", "--model", model, "--gpus", "1", "--recipe", recipe])


@given(models(), st.integers(1, 70), st.sampled_from(["zero-paper", "torch-mixed", "torch-bf16", "megatron"]))
@some(20)
def test_shards_and_wholes(model, n, recipe):
    """A stage never needs more than the one before; n GPUs hold at least the whole; memory says what zero says."""
    found = results(["zero", "--model", model, "--gpus", str(n), "--recipe", recipe])
    assume(found is not None)
    whole = on_one(model, recipe)
    each = [found[f"stage{s}.memory_bytes"] for s in range(4)]
    # FSDP (torch's stages 2 and 3) cuts every tensor along its rows and rounds up; stage 1 deals out whole tensors
    extra = rounding(model, n) * (4 + 4 + 8) if recipe.startswith("torch") else 0
    assert each[0] >= each[1] >= each[2] - extra, each
    assert each[2] >= each[3], each
    for s in range(4):
        for key in STATES:
            assert found[f"stage{s}.{key}"] * n >= whole[f"stage{s}.{key}"], (s, key)
    if recipe.startswith("torch"):
        argv = ["--model", model, "--gpus", str(n), "--stage", "1", "--recipe", recipe, "--seq-len", "32"]
        same = None if n == 1 else results(["memory", "--mode", "training", *argv])
        if same is not None:
            assert same["optimizer_bytes"] == found["stage1.optimizer_bytes"]
    count("shards hold the whole, the fullest rank is shown, stages are ordered", 12)


LETTERS = (
    ["kvcache", "--batch-size", "b", "--seq-len", "s"], ["flops", "--batch-size", "b", "--seq-len", "s"],
    ["flops", "--mode", "training", "--batch-size", "b", "--seq-len", "s"], ["peft", "--method", "lora", "--rank", "r"],
    ["peft", "--method", "dora", "--rank", "r"], ["peft", "--method", "vera", "--rank", "r"],
    ["peft", "--method", "loha", "--rank", "r"], ["peft", "--method", "adalora", "--rank", "r"],
    ["peft", "--method", "osf", "--rank", "r"], ["peft", "--method", "freeze", "--trainable-layers", "t"],
    ["zero", "--gpus", "N"], ["zero", "--gpus", "N", "--recipe", "megatron"],
    ["memory", "--mode", "training", "--recipe", "zero-paper", "--batch-size", "b", "--seq-len", "s"],
)  # fmt: skip


@cache
def in_letters(*argv):
    return report([*argv, "--model", "symbolic"])


@given(
    st.sampled_from(LETTERS), st.integers(2, 40), st.integers(1, 40), st.integers(1, 6), st.integers(1, 300), st.data()
)
@some(20)
def test_letters_are_numbers_elsewhere(tmp_path, argv, L, width, b, s, data):
    """An answer in letters, with numbers put in, is the answer for those numbers: at sizes unlike the stand-ins."""
    heads = data.draw(st.sampled_from([1, 2, 4]))
    N = data.draw(st.sampled_from([1, 2, 4, 8, 16]))
    d = 16 * heads * width
    numbers = {"L": L, "d": d, "h": heads, "b": b, "s": s, "r": data.draw(st.integers(1, 7)), "N": N, "t": 1}
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps({"model_type": "symbolic", "num_hidden_layers": L, "hidden_size": d, "num_attention_heads": heads})
    )
    typed = [str(numbers[w]) if w in numbers else w for w in argv]
    made, plain = in_letters(*argv), results([*typed, "--model", str(path)])
    if made is None or plain is None:
        return
    for node in made.nodes():
        if not node.key or node.unit is None or node.key not in plain or not hasattr(node.value, "expr"):
            continue
        if node.key == "checkpoint_bytes":  # the file's header is text: its length has no form in letters
            continue
        expression = sympy.sympify(node.value.expr)
        got = expression.subs({x: numbers[x.name] for x in expression.free_symbols})
        if not got.is_Integer and node.unit.counted:
            continue  # N does not divide here: the letters are the textbook's, the numbers are padded
        assert abs(got - plain[node.key]) <= 1e-9 * abs(plain[node.key]), (argv, node.key, str(expression), numbers)
        count("letters with numbers put in are the numbers")


@given(st.sampled_from(CAUSAL), CARDS, st.sampled_from([1, 3]), st.sampled_from(["bf16", "fp8", "int8"]))
@some(20)
def test_the_longest_context_fits_and_one_more_does_not(model, card, b, dtype):
    argv = [
        "kvcache",
        "--model",
        model,
        "--gpu",
        card,
        "--kv-dtype",
        dtype,
        "--workspace",
        "none",
        "--batch-size",
        str(b),
    ]
    found = results([*argv, "--seq-len", "128"])
    if found is None or not found.get("max_tokens"):
        return
    most = found["max_tokens"]
    if most >= 10**9:
        return
    here, there = (results([*argv, "--seq-len", str(n)]) for n in (most, most + 1))
    assert here["kv_cache_bytes"] <= found["free_bytes"], (argv, most)
    assert there["kv_cache_bytes"] > found["free_bytes"], (argv, most)
    count("the claimed maximum fits, one more does not")


@pytest.mark.thorough
@given(
    st.sampled_from(CAUSAL[:5]),
    CARDS,
    st.sampled_from(["batch-size", "seq-len"]),
    st.sampled_from(["training", "inference"]),
)
@some(20)
def test_the_largest_fits_and_one_more_does_not(model, card, what, mode):
    argv = ["memory", "--mode", mode, "--model", model, "--gpu", card]
    found = results([*argv, "--largest", what])
    key = f"largest.{what.replace('-', '_')}"
    if found is None or not found.get(key) or found[key] >= 10**6:
        return
    here, there = (results([*argv, f"--{what}", str(n)]) for n in (found[key], found[key] + 1))
    if here is None or there is None:
        return
    assert here["need_bytes"] <= here["have_bytes"] or here["need_bytes.low"] <= here["have_bytes"], (argv, found[key])
    assert there["need_bytes"] > there["have_bytes"] or there["need_bytes.high"] > there["have_bytes"], (
        argv,
        found[key],
    )
    count("the claimed maximum fits, one more does not")


ADVISED = (
    "memory --mode training", "memory --mode training", "memory --mode inference", "infer", "kvcache",
    "memory --mode training --gpus 4 --stage 1", "memory --mode training --gpus 8 --context-parallel 2",
    "infer --engine vllm", "memory --engine sglang", "kvcache --engine vllm",
)  # fmt: skip
MORE_OPTIONS = (
    [], [], ["--method", "lora"], ["--recipe", "torch-mixed"], ["--attention", "eager"], ["--dtype", "fp32"]
)  # fmt: skip


@pytest.mark.thorough
@given(
    models(),
    CARDS,
    st.sampled_from(ADVISED),
    st.sampled_from([1, 8, 64]),
    st.sampled_from([128, 2048]),
    st.sampled_from(MORE_OPTIONS),
)
@some(20)
def test_every_suggestion_is_what_its_command_prints(model, card, command, b, s, more):
    argv = [*command.split(), "--model", model, "--gpu", card, "--batch-size", str(b), "--seq-len", str(s), *more]
    made = report(argv)
    if made is None:
        return
    for table in (p for p in made.body if isinstance(p, Table) and p.title == "What would change it"):
        for row in table.rows:
            flags, needs = row[0], row[1]
            if not isinstance(needs, Cell) or "--gpu" in flags:
                continue
            words = re.sub(r"\(.*?\)", "", flags).split()
            kept = list(argv)
            given_ = {w for w in words if w.startswith("--")} | ({"--recipe"} if "no --recipe" in flags else set())
            for flag in given_ & set(kept):
                at = kept.index(flag)
                del kept[at : at + 2]
            got = results([*kept, *words])
            assert got is not None, (argv, flags)
            assert got["need_bytes"] == value_of(needs.value), (argv, flags, got["need_bytes"], needs.value)
            count("a suggestion's figure is what its command prints")


def exactly(number):
    """A whole number as it is, a float in 60 digits: an exact root of its fraction is not to be found in time."""
    return sympy.Integer(number) if isinstance(number, int) else sympy.Float(number, 60)


@given(lines(without=("--samples",)), models())
@some(6)
def test_derivations_are_the_answer(argv, model):
    """The expression that ``--derive`` prints, with the numbers of its letters put in, is the number beside it."""
    words = surface_of(argv)
    found = printed([*argv, *(["--model", model] if "--model" in words.flags and argv[0] != "chinchilla" else []),
                     *(["--derive"] if "--derive" in words.flags else [])])  # fmt: skip
    if found is None:
        return
    numbers = {s["name"]: s["value"] for s in found.get("symbols", [])}
    for d in found.get("derivations", []):
        if d["value"] is None or not isinstance(d["value"], int | float):
            continue
        expression = sympy.sympify(d["expression"], locals={n: sympy.Symbol(n) for n in numbers})
        if any(str(x) not in numbers or not isinstance(numbers[str(x)], int | float) for x in expression.free_symbols):
            continue
        got = expression.subs({x: exactly(numbers[x.name]) for x in expression.free_symbols})
        assert abs(got - d["value"]) <= 1e-9 * abs(d["value"]), (argv, model, d["key"], d["expression"], numbers)
        count("derivations with numbers put in are the answer")


@given(st.sampled_from(CAUSAL), CARDS, st.sampled_from([64, 500, 2048]), st.sampled_from(["bf16", "fp8"]))
@some(10)
def test_the_largest_batch_of_caches_fits_and_one_more_does_not(model, card, s, dtype):
    argv = ["kvcache", "--model", model, "--gpu", card, "--kv-dtype", dtype, "--workspace", "none", "--seq-len", str(s)]
    found = results([*argv, "--batch-size", "1"])
    if found is None or not found.get("max_batch") or found["max_batch"] >= 10**9:
        return
    here, there = (results([*argv, "--batch-size", str(found["max_batch"] + n)]) for n in (0, 1))
    assert here["kv_cache_bytes"] <= found["free_bytes"] < there["kv_cache_bytes"], (argv, found["max_batch"])
    count("the claimed maximum fits, one more does not")


@given(models(), st.sampled_from(["lora", "loha", "dora", "pissa", "adalora"]), st.integers(10**5, 10**8))
@some(20)
def test_the_rank_of_a_budget_is_the_largest_within_it(model, method, budget):
    argv = ["peft", "--model", model, "--method", method]
    found = results([*argv, "--budget", str(budget)])
    if found is None or found["rank"] < 2:
        return
    trained = [results([*argv, "--rank", str(found["rank"] + n)])["added_bytes"] for n in (0, 1)]
    assert trained[0] <= budget < trained[1], (argv, budget, found["rank"], trained)
    count("the claimed maximum fits, one more does not")


ENGINES = ("llamacpp", "vllm", "sglang")


@given(
    st.sampled_from(("llama-3-8b", "qwen3-0.6b", "gemma-3-1b", "mixtral-8x7b")), st.sampled_from(ENGINES),
    st.sampled_from(("rtx-4090", "a100-40gb")), st.sampled_from(("ctx-size", "max-model-len")),
)  # fmt: skip
@some(3)
def test_the_largest_of_an_engine_fits_and_one_more_does_not(model, engine, card, what):
    argv = ["memory", "--model", model, "--engine", engine, "--gpu", card]
    found = results([*argv, "--largest", what])
    key = f"largest.{what.replace('-', '_')}"
    if found is None or not found.get(key) or found[key] >= 10**6:
        return
    here, there = (results([*argv, f"--{what}", str(n)]) for n in (found[key], found[key] + 256))
    if here is None or there is None:
        return
    assert here["need_bytes.low"] <= here["have_bytes"], (argv, found[key])
    assert there["need_bytes.high"] > there["have_bytes"], (argv, found[key])
    count("the claimed maximum fits, one more does not")
