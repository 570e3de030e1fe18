"""Decode context parallelism: a sequence's tokens are dealt over ranks that hold copies of the same heads."""

from __future__ import annotations

import pytest

LINE = "kvcache qwen3-235b-a22b --engine vllm --tensor-parallel 8 --max-model-len 262144 --format json"


def test_a_public_log(llmcalc):
    """vLLM's pull request on DCP for FlashAttention: --tensor-parallel-size 8 --decode-context-parallel-size 2."""
    one = llmcalc(f"{LINE} --gpu h200").results["bytes_per_token"]
    blocks = 1_723_584 // 2 // 16
    got = llmcalc(f"{LINE} --decode-context-parallel-size 2 --pool-bytes {blocks * 16 * one}").results
    assert got["kv_blocks"] == blocks
    assert got["kv_tokens"] == 1_723_584
    assert f"{got['max_concurrency']:.2f}" == "6.57"


def test_a_latent_is_dealt_over_all(llmcalc):
    line = "kvcache deepseek-v3 --engine vllm --gpu h200 --tensor-parallel 8 --max-model-len 128k --format json"
    whole, dealt = (llmcalc(f"{line} -dcp {n}").results for n in (1, 8))
    assert dealt["kv_blocks"] == whole["kv_blocks"]
    assert dealt["kv_tokens"] == 8 * whole["kv_tokens"]
    assert dealt["max_concurrency"] == pytest.approx(8 * whole["max_concurrency"], rel=1e-3)
    steps = [
        llmcalc(
            f"infer deepseek-v3 --engine vllm --gpu h200 --tensor-parallel 8 -b 16 -s 32k -dcp {n} --format json"
        ).results["decode_step_seconds"]
        for n in (1, 8)
    ]
    assert steps[1] < steps[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("llama-3-8b --tensor-parallel 8 -dcp 2", "be at most 1"),
        ("deepseek-v3 --tensor-parallel 8 -dcp 3", "must divide --tensor-parallel 8"),
        ("gemma-3-1b --tensor-parallel 4 -dcp 2", "layers with windows or states"),
        ("deepseek-v3 --engine sglang -dcp 2", "--decode-context-parallel is no option of --engine sglang"),
    ],
)
def test_refused(llmcalc, line, says):
    name, *rest = line.split()
    engine = [] if "--engine" in rest else ["--engine", "vllm"]
    ran = llmcalc("kvcache", "--model", name, *engine, *rest, "--gpu", "h200")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert says in ran.err


def test_a_rank_reads_its_own_experts_for_the_tokens_of_all():
    """Ideal bytes of a step at the memory's rate: a dealt expert is whole, a cut one is a part; the same in all."""
    from estimator.roofline import machine
    from estimator.work.product import EXPERTS, MLP, Product
    from estimator.work.times import How, times

    card = machine("h200", "bf16")
    rows, chosen, k, n = 4, 32, 7168, 2048

    def read(q, how):
        return round(times([q], card, how).ideal * card.bandwidth)

    q = Product("e", EXPERTS, rows, k, n, operator="experts", weight=chosen * k * n)
    activations = 2 * rows * (k + n)
    assert read(q, How()) == 2 * chosen * k * n + activations
    assert read(q, How(shards=8)) == (2 * chosen * k * n + activations) // 8
    assert read(q, How(experts=8, each_expert=1)) == 2 * chosen // 8 * k * n + activations  # data parallel
    assert read(q, How(shards=2, experts=8, each_expert=1)) == 2 * chosen // 8 * k * n + activations // 2
    dense = Product("m", MLP, rows, k, n, weight=k * n)
    assert read(dense, How(together=8)) == 2 * k * n // 8 + activations


def test_dealt_experts_pay_where_many_requests_wait(llmcalc):
    """More sequences fit where a latent cache is not copied to a tensor group."""
    line = "infer deepseek-v3 --engine vllm --gpu h200 --batch-size 256 --seq-len 3840 --new-tokens 256"
    tensor, dealt = (
        llmcalc(f"{line} --max-model-len 4096 --format json {x}").json
        for x in ("--tensor-parallel 8", "--data-parallel 8 --expert-parallel")
    )
    assert dealt["results"]["tokens_per_second"] > tensor["results"]["tokens_per_second"]
    assert any("experts over 8 GPUs: each layer gathers" in x for x in dealt["assumptions"])
    assert not any("experts over" in x for x in tensor["assumptions"])
