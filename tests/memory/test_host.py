"""The host's memory of a step with --offload: as zero says it, beside the card's, and against --ram."""

from __future__ import annotations

import pytest

from estimator import api
from estimator.errors import DoesNotFit, InputError

SHARED = {"gpus": 8, "stage": 3, "offload": "all"}


@pytest.mark.parametrize("model", ["llama-3.1-70b", "gpt2", "mixtral-8x7b"])
@pytest.mark.parametrize(
    ("stage", "offload", "gpus"), [(3, "all", 8), (3, "optimizer", 16), (2, "optimizer", 4), (1, "optimizer", 2)]
)
def test_deepspeeds_host_is_what_zero_says(model, stage, offload, gpus):
    asked = {"gpus": gpus, "stage": stage, "offload": offload, "recipe": "deepspeed"}
    found = api.memory(model, mode="training", checkpointing="full", **asked).results()
    there = api.zero(model, **asked).results()
    assert found["host_node_bytes"] == there[f"stage{stage}.host_bytes"]
    assert found.get("host_without_init_bytes") == there.get(f"stage{stage}.host_without_init_bytes")
    assert found["host_bytes"] * min(gpus, 8) <= found["host_node_bytes"]


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt2", "qwen3-0.6b"])
@pytest.mark.parametrize("recipe", ["torch-bf16", "torch-fp32", "torch-mixed"])
@pytest.mark.parametrize("gpus", [2, 8, 24])
def test_fsdps_host_is_what_zero_says(model, recipe, gpus):
    asked = {"gpus": gpus, "stage": 3, "offload": "all", "recipe": recipe}
    found = api.memory(model, mode="training", checkpointing="full", **asked).results()
    there = api.zero(model, **asked).results()
    assert found["host_bytes"] == there["stage3.host_bytes"]
    assert found["host_node_bytes"] == there["stage3.host_node_bytes"]


def test_the_newcomers_70b_on_eight_cards():
    """It needed "9.89 GiB" and no word of the 1.73 TiB beside it."""
    asked = api.memory(
        "llama-3.1-70b", mode="training", recipe="deepspeed", gpu="a100-80gb", checkpointing="full", **SHARED
    )
    assert asked.value("host_node_bytes") == 1904950075392  # 18 bytes a parameter, half as much again
    assert asked.value("fits") == "yes"
    assert asked.verdict.endswith("The host of a node needs 1.73 TiB (--ram asks whether it fits).")


def test_an_adapters_states_alone_are_on_the_host():
    """16 bytes a trained parameter, 2 of every weight, half as much again, on one node."""
    found = api.memory("llama-3.1-8b", mode="training", method="lora", rank=8, recipe="deepspeed", **SHARED).results()
    total, trained = found["params.total"], found["params.trainable"]
    assert found["host_node_bytes"] == (16 * trained + 2 * (total + trained)) * 3 // 2


@pytest.mark.parametrize("command", [api.memory, api.train])
def test_ram_says_whether_it_fits_there(command):
    more = {"mode": "training"} if command is api.memory else {"tokens": "10M"}
    asked = {**more, **SHARED, "recipe": "deepspeed", "gpu": "a100-80gb", "checkpointing": "full"}
    small, large = (command("llama-3.1-8b", ram=ram, **asked) for ram in ("128GiB", "1TiB"))
    assert small.value("fits") == "no"
    assert small.verdict.startswith("Does not fit: a node needs 201.9 GiB, the host has 128 GiB; over by 73.93 GiB.")
    assert large.value("fits") == "yes"
    assert "On the host: Fits: a node needs 201.9 GiB, the host has 1.00 TiB" in large.verdict
    with pytest.raises(DoesNotFit, match="the host has 128 GiB"):
        command("llama-3.1-8b", ram="128GiB", check_fit=True, **asked)


def test_ram_alone_is_answered_without_a_card():
    asked = {"mode": "training", "recipe": "torch-bf16", "checkpointing": "full", **SHARED}
    found = api.memory("llama-3.1-8b", ram="64GiB", **asked)
    assert (found.value("fits"), found.verdict[:16]) == ("yes", "Fits: a node nee")


def test_ram_without_offload_is_refused():
    with pytest.raises(InputError, match="--ram 64GB is of serving, not of a training step without --offload"):
        api.memory("gpt2", mode="training", ram="64GB")
    with pytest.raises(InputError, match="--ram: --recipe all"):
        api.memory("gpt2", mode="training", recipe="all", ram="64GB")


def test_accountings_say_it_too():
    asked = {"gpus": 16, "stage": 3, "offload": "all", "recipe": "megatron"}
    found = api.memory("llama-3.1-8b", mode="training", checkpointing="full", **asked).results()
    there = api.zero("llama-3.1-8b", **asked).results()
    assert (found["host_bytes"], found["host_node_bytes"]) == (
        there["stage3.host_bytes"], there["stage3.host_node_bytes"]
    )  # fmt: skip


def test_zero_says_deepspeeds_host_beside_tensor_parallelism_too():
    found = api.zero("llama-3.1-8b", gpus=8, stage=3, offload="all", recipe="deepspeed", tensor_parallel=2).results()
    assert found["stage3.host_node_bytes"] == 8 * found["stage3.host_bytes"]
