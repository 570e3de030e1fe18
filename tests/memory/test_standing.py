"""What stands before a step, written out: weights, adapters, packed weights, buffers, states, gradients."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from types import SimpleNamespace

import pytest

from estimator.config import Config
from estimator.families import build
from estimator.inventory import CONV1D, LINEAR, NORM
from estimator.models import load_model
from estimator.moments.standing import (
    TABLES,
    buffer_bytes,
    later,
    rotary_bytes,
    standing,
    trained_tensors,
    weight_tensors,
)
from estimator.moments.workload import Workload
from estimator.optimizers import OPTIMIZERS, copy_bytes, held_bytes
from estimator.parallel.ddp import bucket_bytes
from estimator.peft.arguments import FROZEN
from estimator.stack.offload import LEAST_INPUT
from estimator.stack.packed import INT8, is_packed, packed_bytes
from estimator.stack.releases import PRESENT
from tests.memory.test_folds import adapted, with_adapter


def llama(**more):
    raw = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
           "vocab_size": 100, "intermediate_size": 128, "max_position_embeddings": 1000}  # fmt: skip
    return build(Config(raw | more))


def test_the_frequencies_of_a_rotary_embedding():
    assert [rotary_bytes(llama(head_dim=n)) for n in (16, 256, 258, 400)] == [512, 512, 1024, 1024]
    assert rotary_bytes(load_model("gpt2").architecture) == 0


def test_what_stands_before_a_step_and_not_at_the_load():
    base = {("model", "weights"): 1, ("gradients", "standing"): 2, ("x", "gradients of this GPU's part"): 3,
            ("optimizer", "states"): 4}  # fmt: skip
    states, spaces = ("optimizer", "states"), ("cuBLAS", "workspaces")
    both = [("gradients", "standing"), ("x", "gradients of this GPU's part")]
    assert later(Workload(1, 8), base) == [*both, states]
    for options in ({"gpus": 2}, {"tensor": 2}, {"kept_gradients": True}):
        assert later(Workload(1, 8, **options), base) == [*both, spaces, states]
    assert later(Workload(1, 8, sharder="deepspeed", stage=0), base) == both
    assert later(Workload(1, 8, sharder="deepspeed", stage=1), base) == [*both, states]


def test_what_stands_before_a_step():
    """Weights in blocks of 512 bytes, workspaces of both threads, what an optimizer and standing gradients take."""
    arch = llama(head_dim=32, intermediate_size=130)
    weights = [(w.elements, w.times) for w in arch.weights()]

    def blocks(width):
        return sum(times * -(-elements * width // 512) * 512 for elements, times in weights)

    load = Workload(2, 3000, width=2)
    trained = trained_tensors(arch, load)
    assert standing(arch, load, trained, None) == {
        ("model", "weights"): blocks(2), ("cuBLAS", "workspaces"): 2 * load.card.workspace
    }  # fmt: skip
    assert standing(arch, replace(load, width=4), trained, None)["model", "weights"] == blocks(4)
    assert standing(arch, replace(load, kbit=True), trained, None)["model", "weights"] == blocks(4)
    found = standing(arch, replace(load, stored=77, reference="model", threads=1), trained, None)
    assert found == {("model", "weights"): 77, ("reference model", "weights"): 77, ("cuBLAS", "workspaces"):
                     load.card.workspace}  # fmt: skip
    key = ("checkpoints", "buffers to the host")
    stream = 2 * 3000 * 64 * 2
    assert key not in standing(arch, replace(load, offload="inputs"), trained, None)
    long = replace(load, s=LEAST_INPUT // (2 * 64 * 2), offload="inputs")
    assert key not in standing(arch, long, trained, None)  # exactly as large as what is left on the card
    assert standing(arch, replace(long, s=long.s + 1), trained, None)[key] == 2 * (LEAST_INPUT + 256)
    assert key not in standing(arch, replace(long, s=long.s + 1, offload=True), trained, None)
    assert stream < LEAST_INPUT
    kept = standing(arch, replace(load, kept_gradients=True), trained, None)["gradients", "standing"]
    assert kept == sum(p.times * copy_bytes(p) for p in trained) == blocks(2)
    optimizer = OPTIMIZERS["adamw"]
    assert standing(arch, load, trained, optimizer)["optimizer", "states"] == held_bytes(optimizer, trained)


def test_adapters_and_what_is_stored_beside_weights():
    arch = load_model("gpt2").architecture
    adapter = adapted(arch)
    size = sum(t.times * -(-prod(t.shape) * 4 // 512) * 512 for t in adapter.tensors)
    assert standing(arch, Workload(1, 8, adapter=adapter), [], None)["adapters", "weights"] == size
    masks = arch._replace(buffers=(replace_weight(arch, (3, 512)),), constants=())
    assert buffer_bytes(masks, Workload(1, 8)) == 3072
    assert buffer_bytes(masks, Workload(1, 8, width=4)) == 6144
    assert buffer_bytes(masks._replace(buffers=masks.buffers * 2), Workload(1, 8)) == 6144
    constant = SimpleNamespace(times=3, bytes=600)
    assert buffer_bytes(masks._replace(constants=(constant,)), Workload(1, 8)) == 3072 + 3 * 1024
    assert buffer_bytes(masks._replace(buffers=(), constants=()), Workload(1, 8)) == 0


def replace_weight(arch, shape):
    return next(iter(arch.weights()))._replace(shape=shape, times=1)


def test_a_table_of_cosines_is_a_buffer_in_training_alone():
    arch = llama(head_dim=32)
    old = replace(PRESENT, table=True)
    old_run = Workload(1, 8, release=old)
    assert buffer_bytes(arch, old_run) == -(-1000 * 32 * 4 // 512) * 512
    assert buffer_bytes(arch, Workload(1, 8, release=old, training=False)) == 0
    assert buffer_bytes(arch, Workload(1, 8)) == buffer_bytes(arch._replace(max_positions=None), old_run) == 0
    assert buffer_bytes(load_model("gpt2").architecture, Workload(1, 8, release=old)) == 0
    assert ("model", "buffers") not in standing(arch, Workload(1, 8), [], None)
    assert standing(arch, Workload(1, 8, release=old), [], None)["model", "buffers"] == 128_000


def test_packed_weights_and_their_buffer():
    arch = llama(head_dim=32)
    load = Workload(1, 8, quantization="nf4", unpacked=frozenset(), release=replace(PRESENT, scratch=True))
    packed = [w for w in arch.weights() if is_packed(w, load)]
    plain = [w for w in arch.weights() if not is_packed(w, load)]
    assert packed
    assert plain
    want = sum(w.times * sum(-(-n // 512) * 512 for n in packed_bytes(w.elements, "nf4")) for w in packed)
    want += sum(w.times * -(-w.elements * 2 // 512) * 512 for w in plain)
    found = standing(arch, load, [], None)
    assert found["model", "weights"] == want
    assert found["model", "buffer of an unpacked weight"] == -(-max(w.elements for w in packed) * 2 // 512) * 512
    alone = replace(load, unpacked=frozenset(w.name for w in packed))
    assert standing(arch, alone, [], None)["model", "buffer of an unpacked weight"] == 0
    none = standing(arch, replace(load, quantization=""), [], None)
    assert ("model", "buffer of an unpacked weight") not in none


def test_what_the_optimizer_is_given():
    arch = load_model("gpt2").architecture
    found = trained_tensors(arch, Workload(1, 8, width=4, wide_embeddings=True))
    weights = list(arch.weights())
    assert [(t.shape, t.width, t.times) for t in found] == [(w.shape, 4, w.times) for w in weights]
    assert [t.matrix for t in found] == [w.role in (LINEAR, CONV1D) for w in weights]
    assert [t.wide for t in found] == [w.role in TABLES for w in weights]
    assert [t.decays for t in found] == [not w.is_bias and w.role != NORM for w in weights]  # the Trainer's two groups
    assert all(t.decays and not t.wide for t in trained_tensors(arch, Workload(1, 8)))


def test_buckets_take_the_order_of_the_model_not_of_the_optimizer():
    arch = load_model("llama-3-8b").architecture
    plain, trainer = (trained_tensors(arch, Workload(1, 8, wide_embeddings=x)) for x in (False, True))
    assert any(not t.decays for t in trainer)
    assert bucket_bytes(arch, trainer) == bucket_bytes(arch, plain) == sum(t.n * t.width * t.times for t in plain)


@pytest.mark.parametrize(
    ("model", "tokens", "more"),
    [("gemma-3-27b-text", 8192, True), ("gemma-3-27b-text", 512, False), ("llama-3-8b", 8192, False)],
)
def test_a_cache_that_holds_more_than_its_windows_is_said(llmcalc, model, tokens, more):
    """The row is what layers attend to; while a prompt passes, transformers' cache holds all of it."""
    ran = llmcalc(f"memory {model} --seq-len {tokens} --format json")
    assert any("of which the window is a view" in x for x in ran.json["assumptions"]) == more
    assert ("once the prompt has passed" in llmcalc(f"memory {model} --seq-len {tokens}").out) == more


def test_a_tower_that_sees_no_image_has_no_states():
    arch = load_model("gemma-3-27b-multimodal").architecture
    everything, text = (
        {t.shape: t for t in trained_tensors(arch, Workload(1, 64, blind=blind))} for blind in (False, True)
    )
    assert set(everything) > set(text)
    tower = sum(w.total for w in arch.towers[0].weights())
    counted = [
        sum(prod(t.shape) * t.times for t in trained_tensors(arch, Workload(1, 64, blind=blind)))
        for blind in (False, True)
    ]
    assert counted[0] - counted[1] == tower


def test_an_adapter_s_tensors_that_never_get_a_gradient_have_no_states():
    """``idle``: of so many of its layers."""
    arch = load_model("gpt2").architecture
    made = adapted(arch)
    first = made.tensors[0]
    parts = (
        first._replace(times=4, idle=1), first._replace(times=4, idle=4), first._replace(times=4, state=FROZEN)
    )  # fmt: skip
    found = trained_tensors(arch, Workload(1, 64, adapter=replace(made, tensors=parts, unfrozen=())))
    assert [(t.shape, t.times) for t in found] == [(first.shape, 3)]


def test_weights_that_an_adapter_takes_off_the_card_leave_their_biases():
    """FRoD's runtime_offload_base_weight."""
    arch = load_model("gpt2").architecture
    there, away = (
        standing(arch, Workload(1, 64, adapter=made), [], None)["model", "weights"]
        for made in (
            with_adapter(arch, "frod", targets=["attn.c_proj"], runtime_offload_base_weight=off)
            for off in (False, True)
        )
    )
    assert there - away == 12 * 768 * 768 * 2


def test_llm_int8_has_a_scale_for_each_output():
    """64 outputs of 128 inputs in the MLP's last matrix."""
    found = {w.name: parts for w, parts in weight_tensors(llama(), Workload(1, 8, quantization=INT8))}
    assert found["model.layers.{i}.mlp.down_proj.weight"] == [64 * 128, 64 * 4]
    assert found["model.layers.{i}.mlp.up_proj.weight"] == [64 * 128, 128 * 4]


def test_matrices_that_galore_projects():
    arch = load_model("gpt2").architecture
    weights = list(arch.weights())
    one = next(w.name for w in weights if w.role == CONV1D)
    found = trained_tensors(arch, Workload(1, 8, projected=frozenset([one])))
    assert [t.matrix for t in found] == [w.name == one for w in weights]
