"""Steps with adapters whose operations are stated for the whole model: ranks of layers, prompts, what runs ahead."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from estimator import api
from estimator.peft import METHODS, find

LITTLE = "llama-3.2-1b"
Q = {"targets": "q_proj"}
LAST = r".*\.(13|14|15)\.self_attn\.q_proj"


def step(method: str, seq_len: int = 64, **options: Any) -> Any:
    return api.memory(
        api.load_model(LITTLE), mode="training", method=method, recipe="torch", seq_len=seq_len, **options
    )


def peak(method: str, **options: Any) -> int:
    return int(step(method, **options).results()["peak.allocated_bytes"])


@pytest.mark.parametrize(("method", "arg"), [("lora", "r"), ("loha", "r"), ("delora", "r")])
def test_each_layer_has_its_own_rank(method: str, arg: str) -> None:
    def of(pattern: str, rank: int = 8) -> int:
        args: dict[str, Any] = {"rank_pattern": {pattern: 64}} if pattern else {}
        return peak(method, seq_len=512, args={arg: rank, **args}, **Q)

    small, one, three, every = (of(p) for p in ("", r".*\.15\..*", r".*\.(13|14|15)\..*", "q_proj"))
    assert every == of("", 64)  # all layers: the rank itself
    assert three - small == 3 * (one - small) > 0
    assert every - small == pytest.approx(16 * (one - small), rel=0.02)


def test_a_rank_of_one_layer_is_that_layers_alone() -> None:
    """The activations of the wide layers alone are theirs: their tensors go with their number."""
    report = step("lora", args={"rank_pattern": {LAST: 128}}, **Q)
    found = report.results()
    assert found["gradients_bytes"] == 4 * (13 * 8 + 3 * 128) * (2048 + 2048)


def test_hira_gives_every_layer_r() -> None:
    """peft 0.21.2, tuners/hira/layer.py, dispatch_default: r of the config, whatever rank_pattern says."""
    plain = step("hira", args={"r": 8}, **Q)
    named = step("hira", args={"r": 8, "rank_pattern": {"q_proj": 64}}, **Q)
    assert plain.results() == named.results()
    report = api.peft(api.load_model(LITTLE), method="hira", args={"rank_pattern": {"q_proj": 64}}, **Q)
    assert any("rank_pattern has no effect" in a for a in report.assumptions)


@pytest.mark.parametrize("method", ["p_tuning", "prompt_tuning", "multitask_prompt_tuning", "cpt", "soft-prompt"])
def test_virtual_tokens_lengthen_the_sequence(method: str) -> None:
    name, few, more = "num_virtual_tokens", 16, 64
    ids = {"cpt": lambda n: {"cpt_token_ids": [1] * n}}.get(method, lambda n: {name: n})
    short, long = (peak(method, seq_len=512, args=ids(n)) for n in (few, more))
    assert long > short
    assert long - short >= 4 * 128_256 * (more - few)  # at the least their logits


def test_a_layer_below_the_first_adaption_prompt_keeps_nothing() -> None:
    of = [peak("adaption_prompt", seq_len=512, args={"adapter_layers": n, "adapter_len": 10}) for n in (2, 4, 6)]
    assert of[2] - of[1] == pytest.approx(of[1] - of[0], rel=0.02)
    assert of[1] - of[0] > 2 * 512 * 2 * 8192 * 2  # two layers' activations of the MLP


def test_weights_that_frod_lets_go_of_are_not_on_the_card() -> None:
    stays, goes, drops = (
        step("frod", args=args, **Q).results()["peak.allocated_bytes"]
        for args in (
            {}, {"runtime_offload_base_weight": True}, {"runtime_offload_base_weight": True, "frod_dropout": 0.1},
        )
    )  # fmt: skip
    assert stays - goes == 16 * 2048 * 2048 * 2
    assert drops > stays


def test_the_shadow_backbone_trains_in_the_models_format() -> None:
    """peft's cast_adapter_dtype converts what tuner layers hold, and the backbone is none. Nothing reads the state that
    the last layer makes, so its update has no gradient."""
    inward, update = 2048 * (8 + 8), 2 * (2 * 2048 * 8 + 8 + 2048)  # of a layer: in and out; two little MLPs
    backbone = 2048 * (2048 + 512 + 512 + 2048) + 3 * 2048 * 8192 + 3 * 2048
    assert step("shadow").results()["gradients_bytes"] == 4 * (16 * inward + 15 * update) + 2 * backbone


def test_xlora_runs_the_model_twice_and_names_the_first_runs_states() -> None:
    forward = partial(peak, "xlora", seq_len=512, **Q)
    assert forward(args={"adapters": 4}) > forward(args={"adapters": 2})
    trained = step("xlora", args={"adapters": 4}, **Q).results()["gradients_bytes"]
    assert trained == 2 * 4 * (2048 + 1)  # the classifier, in the model's format


@pytest.mark.parametrize("method", [m for m in METHODS if not find(m).recomputes])
def test_a_step_that_peft_cannot_run_says_so(method: str) -> None:
    def said(checkpointing: str) -> bool:
        report = api.memory(
            api.load_model(LITTLE), mode="training", method=method, seq_len=64, checkpointing=checkpointing
        )
        return any("such a step fails" in a for a in report.assumptions)

    assert said("full")
    assert not said("none")
