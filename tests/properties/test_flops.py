"""What must hold of FLOPs whatever the model: linear in the batch, backward twice forward, causal below full."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.commands.flops.report import flops
from estimator.errors import InputError
from estimator.models import Model, load_model
from estimator.work.run import products
from estimator.work.workload import PassSizes

NAMES = ("gpt2", "llama-3.2-1b", "gemma-3-1b", "qwen1.5-moe-a2.7b", "bert-base-uncased", "t5-small")
LOADED: dict[str, Model] = {}


def model(name: str) -> Model:
    return LOADED.setdefault(name, load_model(name))


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(NAMES), b=st.integers(1, 64), s=st.integers(1, 5000), training=st.booleans())
def test_linear_in_the_batch(name: str, b: int, s: int, training: bool) -> None:
    def total(n: int) -> int:
        work = PassSizes("training" if training else "forward", n, s)
        return sum(q.total() for q in products(model(name).architecture, work))

    assert total(b) == b * total(1)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(NAMES), s=st.integers(1, 3000))
def test_backward_is_twice_forward_for_eager_full_training(name: str, s: int) -> None:
    list_ = products(model(name).architecture, PassSizes("training", 1, s, fused=False))
    assert sum(q.backward() for q in list_) == 2 * sum(q.forward() for q in list_)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(NAMES), s=st.integers(1, 6000))
def test_causal_is_never_more_than_full(name: str, s: int) -> None:
    list_ = products(model(name).architecture, PassSizes("forward", 1, s))
    assert 0 < sum(q.forward(causal=True) for q in list_) <= sum(q.forward() for q in list_)


def test_causal_counts_the_triangle_and_the_band() -> None:
    arch = model("gemma-3-1b").architecture
    list_ = products(arch, PassSizes("forward", 1, 1000))
    scores = {q.pairs for q in list_ if q.name.endswith(".scores")}
    assert scores == {1000 * 1001 // 2, sum(min(i + 1, 512) for i in range(1000))}


def test_lora_costs_less_than_full_training_and_more_than_forward() -> None:
    m = model("llama-3.2-1b")
    forward = flops(m, seq_len=512).results()["total_flops"]
    full = flops(m, seq_len=512, mode="training").results()["total_flops"]
    lora = flops(m, seq_len=512, mode="training", method="lora", rank=16, targets="all-linear").results()["total_flops"]
    assert 1.9 * forward < lora < 2.3 * forward < full


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "sideways"}, "--mode"),
        ({"logits": "some"}, "--logits"),
        ({"attention_flops": "half"}, "--attention-flops"),
        ({"mode": "decode", "seq_len": 8}, "--context"),
        ({"context": 8}, "--mode decode"),
        ({"batch_size": 0}, "--batch-size"),
        ({"rank": 8}, "--method"),
        ({"mode": "training", "method": "freeze", "trainable_layers": 99}, "--trainable-layers"),
        ({"encoder_len": 9}, "--encoder-len"),
        ({"seconds": 1.0}, "--gpu"),
        ({"gpu": "v100"}, "bf16"),
    ],
)
def test_bad_input(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        flops(model("gpt2"), **options)  # type: ignore[arg-type]


def test_encoders_do_not_decode() -> None:
    with pytest.raises(InputError, match="encoder"):
        flops(model("bert-base-uncased"), mode="decode")


def test_every_method_lets_gradients_through() -> None:
    """A frozen base costs about one more forward pass; what is trained near the output costs less."""
    from estimator.peft import METHODS

    m = model("llama-3.2-1b")
    forward = flops(m, seq_len=128).results()["total_flops"]
    silent = {"bitfit"}  # Llama has no biases
    for method in METHODS:
        if method in silent:
            continue
        total = flops(m, seq_len=128, mode="training", method=method).results()["total_flops"]
        assert forward < total < 6 * forward, method


def test_products_of_virtual_tokens() -> None:
    m = model("llama-3.2-1b")
    plain = flops(m, seq_len=100, mode="training", method="lora", targets="q_proj").results()
    prompt = flops(m, seq_len=80, mode="training", method="prompt_tuning").results()
    assert prompt["forward.mlp"] == plain["forward.mlp"]  # 20 virtual tokens before 80
