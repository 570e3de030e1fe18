"""What must grow: memory, caches, FLOPs and parameters with the batch, the tokens, the layers and the rank."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.properties.asked import count, lines, models, results, some

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

def grows(command: str, argv: list[str], few: list[str], many: list[str], what: str) -> None:
    first = results([*argv, *few])
    second = results([*argv, *many]) if first is not None else None
    if first is None or second is None:
        return
    for key in GROWING[command]:
        if isinstance(first.get(key), int) and isinstance(second.get(key), int):
            assert second[key] >= first[key], (argv, few, many, key, first[key], second[key])
    count(f"grows with the {what}")


@st.composite
def asked(draw, *commands):
    command = draw(st.sampled_from(commands))
    argv = draw(lines(command, without=FIXED, most=3))
    mode = ["--mode", "training"] if command in ("memory", "flops") and draw(st.booleans()) else []
    return command, [*argv, *mode, "--model", draw(models())]


@given(asked("memory", "kvcache", "flops"), st.integers(1, 40), st.integers(1, 20), st.sampled_from([64, 200, 512]))
@some(40)
def test_with_the_batch(one, b, more, s):
    command, argv = one
    grows(command, [*argv, "--seq-len", str(s)], ["--batch-size", str(b)], ["--batch-size", str(b + more)], "batch")


@given(asked("memory", "kvcache", "flops"), st.integers(1, 500), st.integers(1, 300), st.sampled_from([1, 2, 5]))
@some(40)
def test_with_the_tokens(one, s, more, b):
    command, argv = one
    grows(command, [*argv, "--batch-size", str(b)], ["--seq-len", str(s)], ["--seq-len", str(s + more)], "tokens")


PLAIN = ("llama-3-8b", "qwen3-0.6b", "pythia-14m", "mixtral-8x7b", "falcon-7b", "opt-350m", "bert-base-uncased")


@given(
    asked("memory", "kvcache", "flops", "zero", "peft"), st.sampled_from(PLAIN), st.integers(1, 12), st.integers(1, 5)
)
@some(40)
def test_with_the_layers(one, model, few, more):
    command, argv = one
    argv = [*argv[:-1], model]
    if "--pipeline-parallel" in argv:  # the layers are dealt out anew: the fullest stage may be another, and smaller
        return
    sizes = [] if command in ("peft", "zero") else ["--seq-len", "64"]
    one_, two = (["--set", f"num_hidden_layers={n}"] for n in (few, few + more))
    grows(command, [*argv, *sizes], one_, two, "layers")


RANKED = ("lora", "dora", "vera", "loha", "adalora", "delora", "hira", "pissa", "qlora")


@given(asked("memory", "peft", "flops"), st.sampled_from(RANKED), st.integers(1, 60), st.integers(1, 30))
@some(40)
def test_with_the_rank(one, method, r, more):
    command, argv = one
    if "--method" in argv or "--adapter" in argv:
        return
    mode = ["--mode", "training"] if command != "peft" and "--mode" not in argv else []
    sizes = [] if command == "peft" else ["--seq-len", "64"]
    argv = [*argv, *mode, *sizes, "--method", method]
    grows(command, argv, ["--rank", str(r)], ["--rank", str(r + more)], "rank")
