"""What every GPU holds in sharded training: whole sums, the fullest rank, the output matrix that is tied."""

from __future__ import annotations

import pytest

from estimator import presets
from estimator.api import memory, zero
from estimator.commands.memory.plan import plan, simulate
from estimator.commands.memory.question import Memory
from estimator.errors import InputError
from estimator.models import load_model
from estimator.moments import Workload, _training, trained_tensors
from estimator.moments.outcome import Alive
from estimator.moments.passes import forward_pass, training_machine
from estimator.moments.run import folds
from estimator.optimizers import find_optimizer
from estimator.parallel import zero_engine
from estimator.parallel.order import in_order
from estimator.parallel.sharded import bucket_bytes, own_tensors
from estimator.parallel.sharding import greedy
from estimator.questions import ask
from estimator.stack.tape import Tape

# layers come in unequal groups
UNEQUAL = ("qwen3-next-80b-a3b", "command-r7b", "modernbert-base", "smollm3-3b", "gemma-3-1b", "deepseek-v3")


@pytest.mark.parametrize("name", [n for n in UNEQUAL if n in presets.ids("models")])
def test_buckets_hold_a_copy_of_every_gradient(name):
    arch = load_model(name).architecture
    trained = trained_tensors(arch, Workload(1, 8, width=2))
    total = sum(t.times * t.n * t.width for t in trained)
    assert sum(t.n * t.width for t in in_order(arch, trained)) == total
    assert total <= bucket_bytes(arch, trained) < total * 1.05


def test_every_preset_is_counted_whole_in_order():
    for name in presets.ids("models"):
        arch = load_model(name).architecture
        trained = trained_tensors(arch, Workload(1, 8, width=2))
        assert sum(t.n for t in in_order(arch, trained)) == sum(t.times * t.n for t in trained), name


def test_memory_grows_with_layers():
    """An odd number of alternating layers left a third of the buckets out."""
    found = [
        memory(load_model("gemma-2-27b", [f"num_hidden_layers={n}"]), mode="training", gpus=2, seq_len=128,
               recipe="torch-bf16").results()["peak.allocated_bytes"]
        for n in (45, 46, 47)
    ]  # fmt: skip
    assert found == sorted(found)


@pytest.mark.parametrize("gpus", [2, 3, 8, 32])
def test_stage_1_shows_the_fullest_rank(gpus):
    for name in ("gpt-oss-20b", "pythia-6.9b", "llama-3.2-1b"):
        arch = load_model(name).architecture
        own = own_tensors(trained_tensors(arch, Workload(1, 8, width=4)), gpus)
        assert sum(t.times * t.n for t in own) == greedy(arch.weights(), gpus)


def test_memory_and_zero_give_one_figure():
    model = load_model("gpt-oss-20b")
    made = memory(model, mode="training", recipe="torch-mixed", optimizer="adamw", gpus=32, stage=1, seq_len=64)
    assert made.results()["optimizer_bytes"] == 6_370_099_200
    assert zero(model, recipe="torch-mixed", gpus=32, stage=1).results()["stage1.optimizer_bytes"] == 6_370_099_200


def test_whole_tensors_have_no_form_in_letters():
    """The stand-ins of letters were printed: 48*L*d**2 + 402653184."""
    model = load_model("symbolic")
    for recipe in ("torch-bf16", "torch-mixed", "torch-fp32"):
        for stage in (1, "all"):
            with pytest.raises(InputError, match="no form in letters"):
                zero(model, recipe=recipe, gpus="N", stage=stage)
        zero(model, recipe=recipe, gpus="N", stage=3)
    assert "stage2.host_bytes" not in zero(model, recipe="deepspeed", gpus="N", stage=2).results()


def test_deepspeed_adds_what_it_prints():
    found = zero(load_model("phi-1.5"), recipe="deepspeed", gpus=2, stage=2, seq_len=1024).results()
    assert found["stage2.total_bytes"] == found["stage2.memory_bytes"] + found["stage2.activations_bytes"]


def test_a_packed_70b_on_two_cards(llmcalc) -> None:
    """What people run on two cards of 24 GB: FSDP with the host's memory. Without it neither version of FSDP fits."""
    line = "memory llama-3-70b --method qlora -r 8 --targets all-linear --gpus 2 --stage 3 -s 512 --checkpointing full"
    two, one, host = (
        llmcalc(f"{line} --gpu rtx-4090 {more} --format json") for more in ("", "--fsdp-version 1", "--offload all")
    )
    assert [x.results["fits"] for x in (two, one, host)] == ["no", "no", "yes"]
    copied = 2 * 2 * 128256 * 8192  # the root's table and output matrix, once more while they are copied out
    assert copied / 2 < two.results["peak.allocated_bytes"] - one.results["peak.allocated_bytes"] < copied
    assert "With --offload all: " in two.json["verdict"]
    for bad in ("--stage 1 --fsdp-version 1", "--fsdp-version 3"):
        assert llmcalc(f"{line} {bad}").code == 2


KINDS = ["deepseek-v2-lite", "glm-4.5-air", "kimi-k2", "jamba-v0.1", "gemma-3-4b", "llama-3-8b"]


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("more", [{}, {"checkpointing": "full"}, {"method": "lora", "targets": "q_proj,o_proj"}])
def test_nothing_gathered_is_left_at_the_step(model, stage, more):
    """Layers of kinds of different sizes: what one kind's last gathers is freed by the next one's first."""
    steps = []
    for version in (1, 2):
        asked = {"recipe": "torch-bf16", "gpus": 2, "stage": stage, "seq_len": 64, "quantization": "none"}
        p = plan(ask(Memory, model, asked | {"mode": "training", "fsdp_version": version} | more))
        step = simulate(p).moments[-1]
        assert step.key == "moments.step_bytes"
        held = step.buffers()
        assert {what for (_, what), n in held.items() if "gather" in what and n} == set()
        assert min(held.values()) >= 0
        steps.append({what for (_, what), n in held.items() if n})
    assert steps[0] == steps[1]  # the sums differ: one flat tensor a layer, or blocks of each weight


@pytest.mark.parametrize("model", ["llama-3.2-1b", "gemma-2-2b", "olmoe-1b-7b", "t5-small"])
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("more", [{}, {"checkpointing": "full"}, {"method": "vera"}])
def test_equal_layers_are_one_under_deepspeed(model, stage, more, monkeypatch):
    """An adapter's gradients fill no bucket before the pass ends: layer by layer the same bytes."""
    asked = {"mode": "training", "recipe": "deepspeed", "gpus": 2, "stage": stage, "method": "lora",
             "targets": "all-linear", "seq_len": 256} | more  # fmt: skip
    p = plan(ask(Memory, load_model(model), asked))
    assert folds(p.share, p.load)
    once = [m.peak for m in _training(p.share, p.load).moments]
    monkeypatch.setattr("estimator.moments.run.folds", lambda arch, load: False)
    assert [m.peak for m in _training(p.share, p.load).moments] == once


def test_flat_gradients_lie_in_the_models_order():
    """Gemma 4's per-layer table runs before the layers and is registered after them: it is of the last ranks' parts,
    and the first's was counted with all of it (5.1 GiB of gradients for 1.2)."""
    asked = {"mode": "training", "recipe": "deepspeed", "gpus": 8, "stage": 2, "accumulation": 2, "seq_len": 64}
    p = plan(ask(Memory, load_model("gemma-4-e2b"), asked))
    tape = Tape(True, False)
    wrap = zero_engine.wrapper(tape, p.share, p.load, trained_tensors(p.share, p.load), {})
    m = training_machine(p.share, p.load, tape, find_optimizer(p.load.optimizer))
    m.wrap = wrap
    forward_pass(m, p.share, p.load, wrap)
    at = [(wrap.offsets[id(leaf)], leaf.name.removeprefix("model.language_model.")) for leaf in m.leaves]
    layers = [n for n, name in at if name.startswith("layers.")]
    ends = [(n, name) for n, name in at if not name.startswith("layers.")]
    assert [name for _, name in ends] == [
        "embed_tokens.weight", "embed_tokens_per_layer.weight", "per_layer_model_projection.weight",
        "per_layer_projection_norm.weight", "norm.weight",
    ]  # fmt: skip
    assert (ends[0][0], min(layers)) == (0, m.leaves[0].n)
    assert ends[1][0] > max(layers)
    assert wrap.part < wrap.own.elements < 1.01 * wrap.part


def test_buffers_of_one_name_are_added():
    """The part's gradients of the micro-batches before, and this one's: the larger stood for both (exit 70)."""
    record = (5, ("a", "b"))
    found = Alive({("a", "b"): 3}, [(1, record)], (1, 0, 0), {("a", "b"): 4, ("c", "d"): 1})()
    assert found == {("a", "b"): 12, ("c", "d"): 1}


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_deepspeed_flattens_a_tower_that_gets_no_gradients(stage):
    """On one GPU a text batch left the tower out of the weights and of the states: 7.49 of 8.27 GiB."""
    asked = {"mode": "training", "recipe": "deepspeed", "gpus": 1, "stage": stage, "seq_len": 64}
    found = memory(load_model("qwen3-vl-4b"), **asked).results()
    assert found["params.trainable"] == found["params.total"]
