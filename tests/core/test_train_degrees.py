"""Context, expert and sequence parallelism in ``train``: what each divides, and what it sends."""

from __future__ import annotations

import pytest

from estimator.commands.train import report as train

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
