"""Context, expert and sequence parallelism in ``train``: what each divides, and what it sends."""

from __future__ import annotations

import pytest

from estimator import api
from estimator.commands.train import report as train
from estimator.errors import InputError
from estimator.parallel.degrees import Degrees

MIXTRAL = {"recipe": "megatron", "gpus": 16, "seq_len": 4096, "batch_size": 1, "steps": 1, "tensor_parallel": 2}


def asked(model="llama-3-8b", **options):
    usual = {"recipe": "megatron", "steps": 1, "seq_len": 8192, "batch_size": 1}
    return train.train(model, **(usual | options)).results()


def test_context_halves_the_device_and_keeps_the_tokens():
    one = asked(gpus=2, tensor_parallel=1, stage=1)
    two = asked(gpus=2, context_parallel=2, stage=1)
    assert two["device_seconds"] < 0.55 * one["device_seconds"]
    assert two["host_seconds"] == one["host_seconds"]
    assert two["communication_seconds"] > one["communication_seconds"]


def test_sequence_parallelism_divides_norms_and_residuals_only():
    whole = asked(gpus=2, tensor_parallel=2)
    parts = asked(gpus=2, tensor_parallel=2, sequence_parallel=True)
    assert parts["device_seconds"] < whole["device_seconds"]
    # each block's input is gathered once more in the backward pass (Korthikanti et al., section 4.2.2)
    assert parts["communication_seconds"] > whole["communication_seconds"]


def test_overlapped_collectives_are_at_most_all_but_one_part():
    plain = asked(gpus=4, tensor_parallel=4, sequence_parallel=True)
    beside = asked(gpus=4, tensor_parallel=4, sequence_parallel=True, tp_comm_overlap=True)
    saved = plain["step_seconds"] - beside["step_seconds"]
    assert saved == pytest.approx(0.75 * plain["communication_seconds"], rel=0.1)


def test_experts_are_reduced_among_those_that_hold_them():
    whole = train.train("mixtral-8x7b", **MIXTRAL, stage=1).results()
    dealt = train.train("mixtral-8x7b", **MIXTRAL, stage=1, expert_parallel=8).results()
    assert dealt["communication_seconds"] < whole["communication_seconds"] / 5
    assert dealt["tokens_per_second"] > whole["tokens_per_second"]


def test_a_ring_leaves_a_node_by_the_ports_of_all_its_gpus():
    """NCCL: 8 ports of 50 GB/s for the 8 GPUs of a node, 2 where the other GPUs are of the tensor group, and no more
    than NVLink has: 300 GB/s of an A100."""
    found = [
        api.zero("llama-3-8b", gpus=16, tensor_parallel=t, stage="1", gpu=gpu).results()
        for t, gpu in ((1, "h100-sxm"), (4, "h100-sxm"), (1, "a100-80gb"), (8, "h100-sxm"))
    ]
    rates = [x["stage1.communication_bytes"] / x["stage1.communication_seconds"] for x in found]
    assert rates == pytest.approx([400e9, 100e9, 300e9, 50e9])
    assert Degrees(128, 8, context=4, node=8).ports("data") == Degrees(64, expert=16).ports("expert") == 1
    assert Degrees(64, expert=2).ports("experts") == Degrees(64, 2).ports("data") == 4
    assert Degrees(64, 16).ports("tensor") == 8


def test_two_nodes_do_not_make_a_sharded_run_slower():
    """A step's weights take 0.8 s to gather over NVLink and 1.0 s over the ports of two nodes: both hide."""
    common = {"model": "llama-3.1-70b", "recipe": "trainer", "gpu": "h200", "seq_len": 2048, "checkpointing": "full"}
    one, two = asked(**common, stage=3, gpus=8), asked(**common, stage=3, gpus=16)
    assert two["step_seconds"] <= one["step_seconds"]
    assert two["communication_seconds"] < 1.3 * one["communication_seconds"]


def test_an_adapters_optimizer_does_not_depend_on_experts_that_it_leaves():
    lora = MIXTRAL | {"method": "lora", "targets": "q_proj,v_proj"}

    def optimizer(n):
        report = train.train("mixtral-8x7b", **lora, expert_parallel=n)
        return next(node.value for node in report.nodes() if node.label == "optimizer step")

    assert optimizer(8) == optimizer(1)


def test_an_expert_may_be_whole_where_the_rest_is_cut():
    """Megatron-LM's --expert-tensor-parallel-size 1: 16 GPUs of two tensor groups share the experts, each whole."""
    both = {"gpus": 16, "tensor_parallel": 2, "expert_parallel": 16, "stage": 1, "recipe": "megatron"}
    with pytest.raises(InputError, match="with --expert-tensor-parallel 1, the tensor group's too"):
        train.train("qwen3-30b-a3b", **both)
    whole = train.train("qwen3-30b-a3b", **both, expert_tensor_parallel=1).results()
    cut = train.train("qwen3-30b-a3b", **both | {"expert_parallel": 8}).results()
    assert whole["tokens_per_second"] > cut["tokens_per_second"]


def test_a_gpu_keeps_as_many_bytes_of_experts_either_way():
    both = {"gpus": 16, "tensor_parallel": 2, "stage": 0, "recipe": "megatron"}
    whole = api.zero("qwen3-30b-a3b", **both, expert_parallel=16, expert_tensor_parallel=1).results()
    cut = api.zero("qwen3-30b-a3b", **both, expert_parallel=8).results()
    assert whole["stage0.memory_bytes"] == cut["stage0.memory_bytes"]


def test_a_stage_without_experts_has_no_share_of_them():
    """DeepSeek-V3's first three layers are dense: a stage of them alone is no error."""
    dealt = {"gpus": 256, "pipeline_parallel": 32, "expert_parallel": 8, "recipe": "megatron"}
    assert api.zero("deepseek-v3", **dealt, stage=1).results()["stage1.memory_bytes"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpus": 2, "expert_parallel": 2}, "has no experts"),
        ({"gpus": 2, "context_parallel": 3}, "is not a multiple"),
        ({"gpus": 2, "context_parallel": 2, "seq_len": 1001}, "does not divide --seq-len"),
        ({"gpus": 2, "sequence_parallel": True}, "add --tensor-parallel"),
        ({"gpus": 2, "tp_comm_overlap": True}, "add --tensor-parallel"),
    ],
)
def test_what_cannot_be_divided(options, said):
    from estimator.errors import InputError

    with pytest.raises(InputError, match=said):
        asked(**options)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("gpt2", {}, "q, k, v apart or sliced from one matrix"),
        ("gpt-oss-20b", {"quantization": "none"}, "sliced from one matrix, for MLA"),
        ("deepseek-v2-lite", {"sequence_parallel": True}, "have no such plan; leave it out"),
        ("qwen3-0.6b", {"recipe": "sft"}, "whose loss takes the whole head"),
        ("llama-3.2-1b", {"method": "dora", "rank": 8}, "use full or lora"),
        ("llama-3.2-1b", {"loss": "parallel"}, "add --sequence-parallel"),
        ("llama-3.2-1b", {"gpus": 4}, "add --stage 2 or 3"),
        ("llama-3.2-1b", {"sequence_parallel": True, "seq_len": 511}, "does not divide --seq-len"),
    ],
)
def test_what_tensor_parallelism_of_pytorch_refuses(model, options, said):
    from estimator.commands.memory.report import memory
    from estimator.errors import InputError

    usual = {"recipe": "torch-bf16", "seq_len": 512, "batch_size": 1, "tensor_parallel": 2}
    with pytest.raises(InputError, match=said):
        memory(model, mode="training", **(usual | options))


def test_a_divided_table_has_a_gradient_of_all_words():
    from estimator.commands.memory.report import memory

    usual = {"recipe": "torch-bf16", "seq_len": 512, "batch_size": 1, "tensor_parallel": 2, "mode": "training",
             "optimizer": "adamw-fused"}  # fmt: skip

    def step(**more):
        return memory("llama-3-8b", **usual, **more).results()["moments.step_bytes"]

    table = 128_256 // 2 * 4096 * 2
    plain, divided = step(), step(sequence_parallel=True)
    # weights, a gradient and two states of the other half; but its gradient too, and what it is scattered into
    assert plain - divided == pytest.approx(4 * table - 2 * table, rel=0.01)


def test_eager_attention_is_not_said_to_be_fused():
    said = [train.train("gpt-oss-20b", recipe="megatron", attention=how).notes for how in (None, "eager")]
    assert ["timed with one all the same" in " ".join(notes) for notes in said] == [True, False]


def test_a_pipeline_fits_as_memory_says(llmcalc):
    """A pipeline's micro-batches are what ``train`` accumulates."""
    shared = "llama-3-8b --gpus 4 --pipeline-parallel 2 --gpu h100-sxm --seq-len 2048"
    timed = llmcalc(f"train {shared} --accumulation 8 --tokens 1G --format json").json
    held = llmcalc(f"memory {shared} --mode training --micro-batches 8 --format json").json
    assert timed["results"]["fits"] == held["results"]["fits"] == "yes"
    assert timed["verdict"] == held["verdict"]
