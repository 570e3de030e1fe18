"""What must grow: memory, caches, FLOPs and parameters with the batch, the tokens, the layers and the rank.

Many sizes are asked at once, as rows of ``sweep``; two of the rows are held to the single commands.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from estimator.kv.layers import span
from estimator.models import load_model
from tests.properties.asked import lines, models, results, rows, some
from tests.properties.holds import count

GROWING = {
    "memory": ("peak.allocated_bytes", "kv_cache_bytes", "weights_bytes", "optimizer_bytes", "gradients_bytes"),
    "kvcache": ("kv_cache_bytes",),
    "flops": ("total_flops", "forward_flops", "attention_flops"),
    "zero": ("stage0.memory_bytes", "stage2.memory_bytes", "stage3.memory_bytes"),
    "peft": ("trainable_params", "added_bytes"),
}
# --batch-size of llama.cpp and of an engine is another thing; a solved size does not grow with itself
FIXED = ("--batch-size", "--seq-len", "--rank", "--largest", "--engine", "--mode", "--ctx-size", "--trainable-layers",
         "--context", "--parallel", "--pool-bytes", "--reduction", "--budget", "--trainable", "--matrix")  # fmt: skip

ROWS = 40
UNSWEPT = ("--check-fit", "--plot", "--detail", "--trainable-percent", "--derive")  # of one answer, not of rows


def grown(command: str, first: dict[str, Any], second: dict[str, Any], where: Any, less: int = 0) -> None:
    for key in GROWING[command]:
        if isinstance(first.get(key), int) and isinstance(second.get(key), int):
            assert second[key] >= first[key] - less, (where, key, first[key], second[key])


def a_block_each(argv: list[str]) -> int:
    """Bytes by which a paged cache may shrink: a window that moves on may touch one block less of each sequence."""
    if "paged" not in argv:
        return 0
    found = results([*argv, "--seq-len", "1"])  # one block of each layer and sequence
    return found["kv_cache_bytes"] if found else 0


def in_step(argv: list[str], sizes: list[int]) -> list[int]:
    """Sizes of which as many tokens wait for a window of a pool: one that is full is one key, and takes less."""
    waiting = span(load_model(argv[argv.index("--model") + 1]).architecture)
    return sorted({n // waiting * waiting + 1 + sizes[0] % waiting for n in sizes}) if waiting > 1 else sizes


def grows(command: str, argv: list[str], flag: str, sizes: list[int], two: tuple[int, int], what: str) -> None:
    """Each answer is at least that for the next smaller size; the rows at ``two`` places are the commands' answers."""
    sizes = in_step(argv, sizes) if flag == "--seq-len" else sizes
    found = rows(argv, flag, sizes)
    if found is None:
        return
    less = a_block_each(argv) if flag == "--seq-len" else 0
    for (n, first), (more, second) in pairwise(zip(sizes, found, strict=True)):
        grown(command, first, second, (argv, flag, n, more), less)
        count(f"grows with the {what}")
    for at in {n % len(sizes) for n in two}:
        single = results([*argv, flag, str(sizes[at])])
        assert single is not None, (argv, flag, sizes[at])
        for key, value in single.items():
            assert found[at][key] == value, (argv, flag, sizes[at], key, found[at][key], value)
        count("a row of a sweep is what the command prints")


@st.composite
def asked(draw, *commands):
    command = draw(st.sampled_from(commands))
    argv = draw(lines(command, without=(*FIXED, *UNSWEPT), most=3))
    mode = ["--mode", "training"] if command in ("memory", "flops") and draw(st.booleans()) else []
    return command, [*argv, *mode, "--model", draw(models())]


def sizes(most):
    """Sizes to ask at once, in order."""
    return st.integers(0, 2**32).map(lambda seed: sorted(Random(seed).sample(range(1, most + 1), ROWS)))


TWO = st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1))


@given(asked("memory", "kvcache", "flops"), sizes(600), st.sampled_from([64, 200, 512]), TWO)
@some(40)
def test_with_the_batch(one, batches, s, two):
    command, argv = one
    grows(command, [*argv, "--seq-len", str(s)], "--batch-size", batches, two, "batch")


@given(asked("memory", "kvcache", "flops"), sizes(3000), st.sampled_from([1, 2, 5]), TWO)
@some(40)
def test_with_the_tokens(one, tokens, b, two):
    command, argv = one
    grows(command, [*argv, "--batch-size", str(b)], "--seq-len", tokens, two, "tokens")


PLAIN = ("llama-3-8b", "qwen3-0.6b", "pythia-14m", "mixtral-8x7b", "falcon-7b", "opt-350m", "bert-base-uncased")


@given(
    asked("memory", "kvcache", "flops", "zero", "peft"), st.sampled_from(PLAIN), st.integers(1, 12), st.integers(1, 5)
)
@some(40)
def test_with_the_layers(one, model, few, more):
    command, argv = one
    argv = [*argv[:-1], model, *([] if command in ("peft", "zero") else ["--seq-len", "64"])]
    if "--pipeline-parallel" in argv:  # the layers are dealt out anew: the fullest stage may be another, and smaller
        return
    found = [results([*argv, "--set", f"num_hidden_layers={n}"]) for n in (few, few + more)]
    if None not in found:
        grown(command, *found, (argv, few, more))
        count("grows with the layers")


RANKED = ("lora", "dora", "vera", "loha", "adalora", "delora", "hira", "pissa", "qlora")


@given(asked("memory", "peft", "flops"), st.sampled_from(RANKED), sizes(200), TWO)
@some(40)
def test_with_the_rank(one, method, ranks, two):
    command, argv = one
    if "--method" in argv or "--adapter" in argv:
        return
    if any(mark in word for word in argv for mark in ("8bit", "4bit", "paged", "galore", "apollo")):
        return  # states are packed from 4,096 elements on, paged from 100,000 on, projected from rank 128 on
    mode = ["--mode", "training"] if command != "peft" and "--mode" not in argv else []
    sizes = [] if command == "peft" else ["--seq-len", "64"]
    grows(command, [*argv, *mode, *sizes, "--method", method], "--rank", ranks, two, "rank")
