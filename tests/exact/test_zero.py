"""``llmcalc zero``: homework, recipes, parallelism over real inventories, configurations that ran."""

from __future__ import annotations

import json

import pytest
import sympy

from estimator.inventory import Weight
from estimator.models import load_model
from estimator.parallel import activations as act
from estimator.parallel import tensor
from estimator.parallel.pipeline import schedule, split, uneven
from estimator.parallel.sharding import greedy

P, N = sympy.symbols("P N", positive=True, integer=True)
KORTHIKANTI = ("gpt2", ("n_embd=12288", "n_head=96", "n_layer=96", "vocab_size=51200"))  # GPT-3's shape


def derived(llmcalc, argv: str) -> dict[str, sympy.Expr]:
    ran = llmcalc(f"zero {argv} --derive --format json")
    assert ran.code == 0, ran.err
    names = {"P": P, "N": N}
    return {d["key"]: sympy.sympify(d["expression"], locals=names) for d in ran.json["derivations"]}


@pytest.mark.parametrize("argv", ["--params P --gpus N", "--params 7.5e9 --gpus 64"])
def test_homework(llmcalc, argv):
    got = derived(llmcalc, argv)
    for stage, want in {1: 4 * P + 12 * P / N, 2: 2 * P + 14 * P / N, 3: 16 * P / N}.items():
        assert sympy.simplify(got[f"stage{stage}.memory_bytes"] - want) == 0
    for stage, want in {0: 2 * P, 1: 2 * P, 2: 2 * P, 3: 3 * P}.items():
        assert sympy.simplify(got[f"stage{stage}.communication_elements"] - want) == 0
    assert sympy.simplify(got["stage3.communication_ring_elements"] - 3 * P * (N - 1) / N) == 0


def test_letters_alone_print_expressions(llmcalc):
    out = llmcalc("zero --params P --gpus N").out
    assert "12*P/N + 4*P" in out
    assert "2*P*(N - 1)/N" in out


@pytest.mark.parametrize(
    ("recipe", "want"),
    [
        ("zero-paper", (16, 4 + 12 / 64, 2 + 14 / 64, 16 / 64)),
        ("megatron", (18, 6 + 12 / 64, 2 + 16 / 64, 18 / 64)),
        ("torch-mixed", (16, 8 + 8 / 64, 2 + 16 / 64, 16 / 64)),
        ("torch-bf16", (8, 4 + 4 / 64, 2 + 8 / 64, 8 / 64)),
        ("torch-fp32", (16, 8 + 8 / 64, 4 + 16 / 64, 16 / 64)),
        ("deepspeed", (20, 4 + 16 / 64, 4 + 16 / 64, 18 / 64)),
    ],
)
def test_recipes(llmcalc, recipe, want):
    got = llmcalc(f"zero --params 64e6 --gpus 64 --recipe {recipe} --format json").results
    assert [got[f"stage{s}.memory_bytes"] for s in range(4)] == [x * 64e6 for x in want]


@pytest.mark.parametrize(
    ("optimizer", "bytes_"), [("sgd", 4), ("lion", 8), ("sgd-momentum", 8), ("adamw8bit", 6), ("adamw", 12)]
)
def test_optimizers(llmcalc, optimizer, bytes_):
    got = llmcalc(f"zero --params 1e6 --gpus 4 --stage 1 --optimizer {optimizer} --format json").results
    assert got["stage1.optimizer_bytes"] == bytes_ * 1e6 / 4


def test_gradient_accumulation(llmcalc):
    got = llmcalc("zero --params 1e6 --gpus 4 --micro-batches 8 --format json").results
    assert [got[f"stage{s}.communication_elements"] for s in range(4)] == [2e6, 2e6, 9e6, 24e6]


def test_zero_redundancy_optimizer_keeps_the_all_reduce(llmcalc):
    assert (
        llmcalc("zero --params 1e6 --stage 1 --recipe torch-mixed --format json").results[
            "stage1.communication_elements"
        ]
        == 3e6
    )


def test_zero_plus_plus_sends_three_quarters_between_nodes(llmcalc):
    """ZeRO++ Table 1: 0.5M + 0 + 0.25M of M 16-bit weights."""
    got = llmcalc("zero --params 64e6 --gpus 64 --stage 3 --zero-pp all --format json").results
    assert got["stage3.network_bytes"] == 0.75 * 2 * 64e6 * 63 / 64
    plain = llmcalc("zero --params 64e6 --gpus 64 --stage 3 --format json").results
    assert got["stage3.memory_bytes"] - plain["stage3.memory_bytes"] == 2 * 64e6 / 8


def test_offload(llmcalc):
    got = llmcalc("zero --params 64e6 --gpus 16 --stage 2 --offload optimizer --gpu a100-80gb --format json").results
    assert got["stage2.memory_bytes"] == 2 * 64e6
    assert got["stage2.host_bytes"] == 14 * 64e6 / 16
    assert got["stage2.host_node_bytes"] == 14 * 64e6 / 2
    assert got["stage2.pcie_bytes"] == 4 * 64e6 / 16
    got = llmcalc("zero --params 64e6 --gpus 16 --stage 3 --offload all --offload-to nvme --format json").results
    assert got["stage3.memory_bytes"] == 0
    assert got["stage3.disk_bytes"] == 16 * 64e6 / 16


def test_the_rate_of_disks_is_said_where_something_goes_to_them(llmcalc):
    nvme = "zero --params 64e6 --gpus 16 --stage 3 --offload all --offload-to nvme --gpu a100-80gb"
    said = [a for a in llmcalc(f"{nvme} --format json").json["assumptions"] if "--nvme-gbps" in a]
    assert len(said) == 1
    assert "200 x 10^9 bits/s" in said[0]
    assert "--nvme-gbps not given" not in llmcalc(f"{nvme} --nvme-gbps 100").out
    assert "--nvme-gbps" not in llmcalc("zero --params 64e6 --gpus 16 --gpu a100-80gb").out


def test_the_picture_shows_what_is_offloaded(llmcalc):
    out = llmcalc("zero --params 64e6 --gpus 4 --offload optimizer").out
    assert "stage 2 ██-------------- " in out
    assert "- offloaded" in out
    assert "offloaded" not in llmcalc("zero --params 64e6 --gpus 4").out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--recipe all", "unknown --recipe 'all'. Did you mean"),
        ("--offload-to nvme", "add --offload optimizer or --offload all"),
        ("--batch-size 0", "--batch-size must be > 0"),
    ],
)
def test_options_that_would_be_ignored_are_refused(llmcalc, options, said):
    got = llmcalc(f"zero {options}")
    assert got.code == 2
    assert said in got.err


@pytest.mark.parametrize(
    ("tensor_parallel", "sequence", "recompute", "want"),
    [
        (1, False, "none", 2868903936),
        (8, False, "none", 578813952),
        (8, True, "none", 358612992),
        (1, False, "full", 50331648),
        (1, False, "selective", 34 * 2048 * 12288),
        (8, True, "selective", 34 * 2048 * 12288 // 8),
    ],
)
def test_korthikanti_layers(tensor_parallel, sequence, recompute, want):
    arch = load_model(*KORTHIKANTI).architecture
    work = act.MicroBatch(1, 2048, tensor.Cut(tensor_parallel), 1, sequence, False, True, recompute)
    assert act.layer_bytes(arch.layers[0], work, arch.hidden) == want


def test_interleaving_holds_one_plus_p_minus_one_over_pv_of_all_layers():
    """Korthikanti et al., section 4.2.3: L*(1 + (p-1)/(p*v)) layers' worth on the first stage."""
    flying = schedule("interleaved", 8, 64, 3).in_flight(0)
    assert flying * (96 // 8) == 96 + 96 * 7 // (8 * 3)
    assert schedule("1f1b", 8, 64, 1).in_flight(0) == 8
    assert schedule("zb-h2", 8, 64, 1).in_flight(0) == 15
    assert schedule("gpipe", 8, 64, 1).in_flight(0) == 64


def test_bubbles():
    assert schedule("1f1b", 8, 64, 1).bubble == 7 / 64
    assert schedule("interleaved", 8, 64, 2).bubble == 7 / 128
    assert schedule("zb-h1", 8, 64, 1).bubble == pytest.approx(7 / 192)
    assert schedule("zb-h2", 8, 64, 1).bubble == 0
    assert schedule("1f1b", 1, 4, 1).bubble == 0


MEGATRON = [  # Narayanan et al. 2021, arXiv 2104.04473, Table 1: layers, width, heads, tensor, pipeline, GPUs
    (24, 2304, 24, 1, 1, 32),
    (30, 3072, 32, 2, 1, 64),
    (36, 4096, 32, 4, 1, 128),
    (40, 6144, 48, 8, 1, 256),
    (48, 8192, 64, 8, 2, 512),
    (60, 10240, 80, 8, 4, 1024),
    (80, 12288, 96, 8, 8, 1536),
    (96, 16384, 128, 8, 16, 1920),
    (105, 20480, 128, 8, 35, 2520),
    (128, 25600, 160, 8, 64, 3072),
]


@pytest.mark.parametrize("row", MEGATRON, ids=lambda r: f"{r[0]}x{r[1]}")
def test_megatron_configurations_fit_an_a100(llmcalc, row):
    layers, width, heads, t, p, gpus = row
    ran = llmcalc(
        f"zero --model gpt2 --set n_layer={layers} --set n_embd={width} --set n_head={heads} "
        f"--set vocab_size=51200 --set n_positions=2048 "
        f"--gpus {gpus} --tensor-parallel {t} --pipeline-parallel {p} --recipe megatron --stage 0 "
        "--seq-len 2048 --checkpointing full "
        f"--attention eager --dropout --micro-batches {max(1, 8 * p)} --gpu a100-80gb --format json"
    )
    assert ran.code == 0, ran.err
    assert ran.results["stage0.fits"] == "yes"


# Llama 3 paper (arXiv 2407.21783), Table 4: tensor, context, pipeline, data; tokens; sequences a data-parallel group
LLAMA3 = [(8, 1, 16, 64, 8192, 32), (8, 1, 16, 128, 8192, 16), (8, 16, 16, 8, 131072, 16)]


@pytest.mark.parametrize("row", LLAMA3, ids=lambda r: f"dp{r[3]}s{r[4]}")
def test_llama_3_405b_fits_without_checkpointing(llmcalc, row):
    t, c, p, data, tokens, batch = row
    ran = llmcalc(
        f"zero --model llama-3.1-405b --gpus {t * c * p * data} --tensor-parallel {t} --sequence-parallel "
        f"--context-parallel {c} "
        f"--pipeline-parallel {p} --pipeline-split ends --recipe megatron --stage 2 "
        f"--seq-len {tokens} --micro-batches {batch} "
        "--gpu h100-sxm --format json"
    )
    assert ran.code == 0, ran.err
    assert ran.results["stage2.fits"] == "yes"


def test_stages_of_a_pipeline():
    arch = load_model("llama-3.1-405b").architecture
    stages = split(arch, 16, 1, "ends")
    assert [s.count for s in stages] == [7, *[8] * 14, 7]
    arch = load_model("deepseek-v3").architecture  # three dense layers, then experts
    assert sum(s.count for s in split(arch, 61, 1, "even")) == 61


def test_vocabulary_padding():
    arch = load_model("gpt2").architecture
    table = tensor.token_table(arch, tensor.Cut(4))[0]
    assert table.shape == (50688 // 4, 768)  # 50257 padded to a multiple of 128 x 4
    assert tensor.token_table(arch, tensor.Cut(1))[0].shape == (50257, 768)


def test_few_key_value_heads_are_copied():
    arch = load_model("llama-3-8b").architecture
    by = {w.name.split(".")[-2]: w.shape for w in tensor.layer(arch.layers[0], tensor.Cut(16))}
    assert by["k_proj"] == (128, 4096)
    assert by["q_proj"] == (256, 4096)
    assert by["o_proj"] == (4096, 256)
    assert by["down_proj"] == (4096, 896)


def test_greedy_partition():
    tensors = [Weight("a", (10,)), Weight("b", (6,)), Weight("c", (5,))]
    assert greedy(tensors, 2) == 11  # 10 | 6 + 5


def test_communication_of_a_tensor_parallel_layer(llmcalc):
    """Four all-reduces a layer of b*s*d elements, 2*(t-1)/t of them on a ring (arXiv 1909.08053, section 3)."""
    got = llmcalc("zero --model gpt2 --gpus 4 --tensor-parallel 4 --stage 0 --seq-len 1024 --format json").results
    assert got["tensor.layer_bytes"] == 4 * 2 * 3 * (1024 * 768 // 4) * 2


def test_time_is_bytes_over_the_link(llmcalc):
    got = llmcalc("zero --params 64e6 --gpus 8 --stage 0 --link-gbps 8 --format json").results
    assert got["stage0.communication_seconds"] == pytest.approx(got["stage0.communication_bytes"] / 1e9)


def test_check_fit(llmcalc):
    assert llmcalc("zero --params 7e9 --gpus 1 --memory 10GB --check-fit").code == 3
    assert llmcalc("zero --params 7e9 --gpus 64 --memory 10GB --check-fit").code == 0


def test_json_is_complete(llmcalc):
    ran = llmcalc(
        "zero --model mixtral-8x7b --gpus 64 --expert-parallel 8 --tensor-parallel 2 "
        "--seq-len 4096 --gpu h100-sxm --format json"
    )
    assert set(json.loads(ran.out)) >= {"schema", "command", "inputs", "results", "tree", "assumptions", "citations"}
    assert ran.results["stage3.total_bytes"] < ran.results["stage0.total_bytes"]


def test_stages_that_do_not_divide_the_layers(llmcalc) -> None:
    """Llama 3.1 405B: 126 layers over 16 stages: 7 and the embedding, 14 times 8, 7 and the head."""
    arch = load_model("llama-3.1-405b").architecture
    assert [s.count for s in split(arch, 16, 1, "even")] == [7, *[8] * 14, 7]
    assert [s.count for s in split(load_model("llama-3-8b").architecture, 5, 1, "even")] == [6, 7, 7, 7, 5]
    assert not uneven(arch, 16, 1, "ends")
    assert not uneven(arch, 14, 1, "even")
    line = "train llama-3.1-405b --recipe megatron --gpus 128 --tensor-parallel 8 --pipeline-parallel 16"
    line += " --accumulation 32"
    found = llmcalc(f"{line} --steps 1 -s 8192 --format json")
    assert any("126 layers do not divide into 16 stages" in x for x in found.json["assumptions"])
    dealt = llmcalc(f"{line} --steps 1 -s 8192 --pipeline-split ends --format json").results
    assert dealt["step_seconds"] == found.results["step_seconds"]
    turns = llmcalc(f"{line} --steps 1 -s 8192 --schedule interleaved --virtual-stages 8 --format json").results
    assert turns["step_seconds"] < dealt["step_seconds"]  # an eighth of the bubble


def test_a_last_stage_without_a_layer(llmcalc):
    """80 layers and two ends on 64 stages: the last one has the head alone."""
    deep = "--recipe megatron --gpus 1024 --tensor-parallel 2 --pipeline-parallel 64 --checkpointing full --format json"
    found = llmcalc(f"train llama-3-70b {deep} --accumulation 64 --stage 3").results
    held = llmcalc(f"memory llama-3-70b --mode training {deep} --gpu h100-sxm --micro-batches 64 --stage 3").results
    assert held["need_bytes.low"] > 0
    assert found["step_seconds"] > 0


def test_an_adapter_trains_alone(llmcalc, tmp_path):
    """LoRA of rank 8 on q and v of Llama-3-8B: 3,407,872 numbers with gradients and states, the rest held only."""
    base, own = 8_030_261_248, 32 * 8 * (4096 + 4096 + 4096 + 1024)
    line = "zero --model llama-3-8b --gpus 8 --recipe zero-paper --format json"
    ran = llmcalc(f"{line} --method lora --rank 8 --targets q_proj,v_proj --stage all").results
    assert ran["stage0.memory_bytes"] == 2 * (base + own) + (2 + 12) * own
    assert ran["stage1.memory_bytes"] == 2 * (base + own) + 2 * own + 12 * own // 8
    assert ran["stage2.memory_bytes"] == 2 * (base + own) + (2 + 12) * own // 8
    assert ran["stage3.memory_bytes"] == 2 * base // 8 + 2 * own // 8 + (2 + 12) * own // 8
    assert ran["stage0.communication_elements"] == 2 * own
    assert ran["stage3.communication_elements"] == 2 * (base + own) + own
    (tmp_path / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Meta-Llama-3-8B", "r": 8,'
        ' "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}'
    )
    saved = llmcalc(f"zero --adapter {tmp_path} --gpus 8 --stage all --format json").results
    assert saved == ran


def test_frozen_layers_have_no_gradients(llmcalc):
    """FSDP2 of the top two layers of GPT-2: a quarter of every matrix of theirs."""
    line = "--model gpt2 --method freeze --trainable-layers 2 --gpus 4 --stage 2 --recipe torch-bf16 --format json"
    found = llmcalc(f"zero {line}").results
    layers = 2 * (12 * 768 * 768 + 13 * 768)
    assert found["stage2.gradients_bytes"] == 2 * layers // 4
