"""Words that no option stands before, where they are meant for one; lines of other programs with their options."""

from __future__ import annotations

import shlex

import pytest

PLACED = [
    ("memory --mode training llama-3.1-8b", "memory llama-3.1-8b --mode training"),
    ("memory --gpu h100-sxm meta-llama/Llama-3.1-8B-Instruct", "memory llama-3.1-8b --gpu h100-sxm"),
    ("memory --gpu rtx-3060 qwen3:8b", "memory qwen3:8b --gpu rtx-3060"),
    ("plan tune --gpu rtx-4090 llama-3-8b", "plan tune llama-3-8b --gpu rtx-4090"),
    ("memory llama-3-8b --method lora --lora_target_modules q_proj k_proj v_proj --rank 8",
     "memory llama-3-8b --method lora --targets q_proj,k_proj,v_proj --rank 8"),
    ("memory llama-3-8b --method lora --packing True", "memory llama-3-8b --method lora --packing"),
    ("memory llama-3-8b --method lora --packing=False", "memory llama-3-8b --method lora"),
    ("train llama-3-8b --gpu h100-sxm --gpus 8 --tokens 15 trillion",
     "train llama-3-8b --gpu h100-sxm --gpus 8 --tokens 15T"),
    ("memory llama-3-8b --gpu rtx 4090", "memory llama-3-8b --gpu rtx-4090"),
    ("memory llama-3-8b --gpu-memory 24 GB", "memory llama-3-8b --gpu-memory 24GB"),
    ("memory vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2 --gpu h100",
     "memory llama-3.1-8b --engine vllm --tensor-parallel 2 --gpu h100"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "here"), PLACED)
def test_a_word_goes_where_it_belongs(llmcalc, typed, here):
    got, own = (llmcalc(f"{line} --format json") for line in (typed, here))
    assert got.code == own.code == 0, got.err
    assert got.out == own.out


LINES = [
    ("vllm serve meta-llama/Llama-3.1-8B --tensor-parallel-size 2 --gpu-memory-utilization 0.9 --port 8000",
     "memory --engine vllm --model meta-llama/Llama-3.1-8B --tensor-parallel 2 --gpu-memory-utilization 0.9", ""),
    ("CUDA_VISIBLE_DEVICES=0,1 vllm serve qwen3-8b -tp 2 --foo bar",
     "memory --engine vllm --model qwen3-8b --tensor-parallel 2", "; --foo is not known here"),
    ("llama-server -m llama-3.1-8b -c 8192 -ngl 99", "memory --engine llama.cpp -m llama-3.1-8b -c 8192 -ngl 99", ""),
    ("./llama-server -hf unsloth/Qwen3-8B-GGUF:Q4_K_M -ngl 99 --jinja",
     "memory --engine llama.cpp --model qwen3-8b --quantization q4_k_m -ngl 99", ""),
    ("python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --tp 2 --nnodes 1",
     "memory --engine sglang --model meta-llama/Llama-3.1-8B --tensor-parallel 2", "; --nnodes: --gpus N counts"),
    ("python3 -m vllm.entrypoints.openai.api_server --model qwen3-8b --max-model-len 8192",
     "memory --engine vllm --model qwen3-8b --max-model-len 8192", ""),
    ("accelerate launch --num_processes 8 sft.py --model_name_or_path llama-3-8b --per_device_train_batch_size 2",
     "memory --recipe sft --gpus 8 --model llama-3-8b --batch-size 2", ""),
    ("torchrun --nproc_per_node 8 train.py --model_name_or_path llama-3-8b --bf16 True",
     "memory --recipe trainer --gpus 8 --model llama-3-8b --autocast=bf16", ""),
    ("trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --lora_r 16 --use_peft",
     "memory --recipe sft --model Qwen/Qwen2.5-0.5B --rank 16 --method=lora", ""),
    ("ollama run llama3.2", "memory --engine llama.cpp --model llama3.2", ""),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "then", "left"), LINES)
def test_another_programs_line_is_told_with_its_options(llmcalc, typed, then, left):
    ran = llmcalc(typed)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert f"unknown command {shlex.split(typed)[0]!r}. Try: llmcalc {then}{left}" in ran.err
    assert left or ran.err.endswith(f"{then}\n")
    followed = llmcalc(then)
    assert followed.code == 0, followed.err


@pytest.mark.parametrize("line", ["gpus h100 b200", "memory llama-3-8b --gpu 4090 foo"])
def test_a_word_that_means_nothing_is_said(llmcalc, line):
    assert f"{line.split()[-1]}: no option stands before it" in llmcalc(line).err
