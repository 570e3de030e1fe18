"""Options as other programs call them: the same answer as under the name here; what changes nothing is said."""

from __future__ import annotations

import json

import pytest

from estimator import foreign
from estimator.cli import COMMANDS, typer_of
from tests.core.make_foreign import RECORD, listed

# what people type, of no program
WORDS = (
    "4bit 8bit accelerator attn budget cache-dtype context-size cp cp-size csv ctx dataset-size days gpu-type "
    "grad-accum gradient-accumulation input-tokens json liger liger-kernel max-context max-cost max-hours "
    "max-sequence-length mem-fraction "
    "micro-batch n-ctx n-gpus ngpu ngpus nodes num-examples num-gpus num-nodes num-tokens precision "
    "prompt-tokens qlora qps quant rps samples slo train-batch-size train-tokens training use-liger users vram zero"
)
# what an option of vLLM's becomes where it is switched off
OFF = "no-enable-prefix-caching"
# of TensorRT-LLM, LM Studio, torchrun, Unsloth, a later vLLM, which were not looked up
ELSEWHERE = (
    "free-gpu-memory-fraction kv-cache-free-gpu-mem-fraction kv-cache-free-gpu-memory-fraction max-num-tokens "
    "gpu-offload nproc-per-node use-gradient-checkpointing language-model-only"
)
# no longer in the versions looked up: vLLM's, TRL's, transformers', SGLang's and llama.cpp's
EARLIER = "enable-ep-moe disable-log-requests max-seq-length torch-dtype mlock mmap no-mmap swap-space logging-dir"

IDLE = ("--device", "--fsdp", "--seed", "--host", "--tf32")
PASTED = [
    ("memory qwen3-8b --engine vllm --gpu l40s --host 0.0.0.0 --enable-prefix-caching --kv-cache-memory-bytes 8G "
     "--attention-backend FLASHINFER --disable-custom-all-reduce --generation-config vllm",
     "memory qwen3-8b --engine vllm --gpu l40s --prefix-caching on --pool-bytes 8G"),
    ("memory qwen3-8b --engine vllm --gpu l40s --no-enable-prefix-caching --port 8000 --host=127.0.0.1",
     "memory qwen3-8b --engine vllm --gpu l40s --prefix-caching off"),
    ("memory qwen3-8b --engine vllm --gpu l40s --host=0.0.0.0", "memory qwen3-8b --engine vllm --gpu l40s"),
    ("memory qwen3-8b --engine sglang --gpu l40s --host ::1 --disable-radix-cache --attention-backend triton",
     "memory qwen3-8b --engine sglang --gpu l40s"),
    ("memory qwen3:8b --gpu 3060 --ctx-size 8192 --host localhost --cache-reuse 256 --slots --main-gpu 0 --no-perf",
     "memory qwen3:8b --gpu 3060 --ctx-size 8192"),
    ("memory llama-3-8b --method lora --gpu l4 --activation_offloading True --max_grad_norm 1.0 --eval_strategy no "
     "--save_total_limit 2 --tf32 True",
     "memory llama-3-8b --method lora --gpu l4 --activation-offload"),
    ("memory llama-3.1-70b --engine vllm --gpu h100-sxm --tensor-parallel-size 4 --kv-cache-dtype fp8",
     "memory llama-3.1-70b --engine vllm --gpu h100-sxm --tensor-parallel 4 --kv-dtype fp8"),
    ("memory llama-3.1-70b --engine vllm --gpu h100-sxm -tp 4 -dp=2",
     "memory llama-3.1-70b --engine vllm --gpu h100-sxm --tensor-parallel 4 --data-parallel=2"),
    ("memory deepseek-v3 --engine sglang --gpu h200 --tp-size 8 --context-length 32768",
     "memory deepseek-v3 --engine sglang --gpu h200 --tensor-parallel 8 --max-model-len 32768"),
    ("memory llama-3-8b --engine trtllm --gpu h100-sxm --kv_cache_free_gpu_memory_fraction 0.8 --max_num_tokens 4096",
     "memory llama-3-8b --engine tensorrt-llm --gpu h100-sxm --kv-fraction 0.8 --max-num-batched-tokens 4096"),
    ("memory qwen3:8b --gpu 3060 --num_ctx 8192", "memory qwen3:8b --gpu 3060 --ctx-size 8192"),
    ("memory qwen3:8b --gpu 3060 --context-length 8192", "memory qwen3:8b --gpu 3060 --ctx-size 8192"),
    ("memory llama-3-8b --method lora --gpu l4 --per_device_train_batch_size 2 --lora_dropout 0.05 --lora_r 16 "
     "--gradient_checkpointing True --target_modules q_proj,v_proj",
     "memory llama-3-8b --method lora --gpu l4 --batch-size 2 --arg lora_dropout=0.05 --rank 16 --checkpointing full "
     "--targets q_proj,v_proj"),
    ("memory llama-3-8b --method lora --gpu l4 --gradient-checkpointing false",
     "memory llama-3-8b --method lora --gpu l4"),
    ("train llama-3-8b --gpus 8 --tensor-model-parallel-size 2 --seq-length 4096 --micro-batch-size 2 --train-iters 10",
     "train llama-3-8b --gpus 8 --tensor-parallel 2 --seq-len 4096 --batch-size 2 --steps 10"),
    ("infer deepseek-v3 --engine vllm --gpu h200 --tensor-parallel-size 8 --enable-expert-parallel",
     "infer deepseek-v3 --engine vllm --gpu h200 --tensor-parallel 8 --expert-parallel"),
    ("train llama-3-8b --steps 1 --gpus 8 --fsdp --stage 3", "train llama-3-8b --steps 1 --gpus 8 --stage 3"),
    ("memory llama-3-8b --qlora --gpu rtx-4090 --ngpus 1", "memory llama-3-8b --method qlora --gpu rtx-4090 --gpus 1"),
    ("memory llama-3-8b --4bit --seed -1e-3", "memory llama-3-8b --quantization nf4"),
    ("memory mixtral-8x7b --engine vllm --gpu h200 -tp 2 --enable-expert-parallel",
     "memory mixtral-8x7b --engine vllm --gpu h200 -tp 2 --expert-parallel 2"),
    ("memory mixtral-8x7b --engine vllm --gpu h200 -tp 2 --expert-parallel",
     "memory mixtral-8x7b --engine vllm --gpu h200 -tp 2 --expert-parallel 2"),
    ("infer mixtral-8x7b --engine vllm --gpu h200 -tp 2 --expert-parallel 2",
     "infer mixtral-8x7b --engine vllm --gpu h200 -tp 2 --expert-parallel"),
    ("kvcache mixtral-8x7b --engine vllm --gpu h200 -tp 2 --ep 2",
     "kvcache mixtral-8x7b --engine vllm --gpu h200 -tp 2 --expert-parallel"),
    ("memory llama-3-8b --engine trtllm --gpu h100-sxm --max_batch_size 64",
     "memory llama-3-8b --engine trtllm --gpu h100-sxm --max-num-seqs 64"),
    ("memory llama-3-8b --gpu l4 --use_peft --lora_r 8", "memory llama-3-8b --gpu l4 --method lora --rank 8"),
    ("memory llama-3-8b --gpu l4 --load_in_4bit True --lora_r 16",
     "memory llama-3-8b --gpu l4 --method qlora --quantization nf4 --rank 16"),
    ("memory llama-3-8b --gpu l4 --bnb_4bit_use_double_quant True --load_in_4bit --lora_r 16",
     "memory llama-3-8b --gpu l4 --method qlora --quantization nf4-dq --rank 16"),
    ("memory llama-3-8b --method lora --bf16 True --fp16 False", "memory llama-3-8b --method lora --autocast bf16"),
    ("memory -hf unsloth/Qwen3-8B-GGUF:Q4_K_M -ngl 99 --device cuda",
     "memory --model qwen3-8b --quantization q4_k_m -ngl 99"),
    ("memory -hf unsloth/Qwen3-8B-GGUF -c 8192", "memory --model qwen3-8b --quantization q4_k_m -c 8192"),
    ("plan tune llama-3-8b --gpu rtx-4090 --budget 20", "plan tune llama-3-8b --gpu rtx-4090 --usd 20"),
    ("plan serve llama-3.1-8b --gpu h100-sxm --users 5", "plan serve llama-3.1-8b --gpu h100-sxm --concurrency 5"),
    ("infer llama-3-8b --engine vllm --gpu h100-sxm --concurrency 4 --json",
     "infer llama-3-8b --engine vllm --gpu h100-sxm --batch-size 4"),
    ("plan serve llama-3.1-8b --gpu h100-sxm --qps 5 --max-new-tokens 100",
     "plan serve llama-3.1-8b --gpu h100-sxm --rate 5 --new-tokens 100"),
]  # fmt: skip


@pytest.mark.parametrize(("pasted", "here"), PASTED)
def test_another_programs_names_mean_the_same(llmcalc, pasted, here):
    got = llmcalc(f"{pasted} --format json")
    assert got.code == 0
    assert ("nothing here depends" in got.err) == any(w in pasted for w in IDLE)
    assert got.out == llmcalc(f"{here} --format json").out


def test_what_changes_nothing_is_left_out_and_said(llmcalc):
    line = "memory qwen3:8b --gpu 3060 -ctk q8_0 -fa on"
    got = llmcalc(f"{line} -t 8 --mlock --temp -0.5 --jinja --seed -1 --format json")
    assert got.err.startswith("note: nothing here depends on -t, --mlock, --temp, --jinja, --seed; left out\n")
    assert got.out == llmcalc(f"{line} --format json").out
    both = llmcalc("memory llama-3-8b --engine vllm --gpu a10 --enable-lora --max-loras 2 --format json")
    assert "depends on --enable-lora;" in both.err
    assert both.out == llmcalc("memory llama-3-8b --engine vllm --gpu a10 --max-loras 2 --format json").out


@pytest.mark.parametrize(("line", "said"), [
    ("memory llama-3-8b --engine vllm --gpu a10 --enable-lora", "--enable-lora: --max-loras N"),
    ("memory llama-3-8b --engine vllm --speculative_config {}", "--speculative_config: infer --draft-model MODEL"),
    ("memory mixtral-8x7b --gpus 8 --mode training --enable-expert-parallel", "in training --expert-parallel N"),
    ("memory llama-3-8b -q q4_k_m -sm row", "-sm: layers are dealt whole here"),
    ("memory -hf someone/Foo-GGUF:Q4_K_M", "give the path of the file: --model FILE.gguf, or a preset and its mix"),
    ("memory -hf unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL", "or a preset and its mix: --model qwen3-8b --quantization q4_k_m"),
    ("memory --model llama-3-8b qwen3-8b", "qwen3-8b: no option stands before it"),
    ("memory llama-3-8b --method lora --bf16", "--bf16: --autocast bf16"),
    ("train llama-3-8b --tokens 1B --gpus 8 --fsdp", "--fsdp: --gpus N --stage 3 is FSDP"),
    ("train llama-3-8b --tokens 1B --gpus 8 --deepspeed ds.json", "--deepspeed: --recipe deepspeed --stage N"),
    ("train llama-3-8b --tokens 1B --gpus 16 --nodes 2", "--nodes: --gpus N counts the GPUs of all nodes"),
    ("plan serve llama-3-8b --latency 1s", "--latency: --ttft TIME"),
    ("chinchilla --gpus 1024 --gpu h100-sxm --days 30", "--days: plan train looks for layouts"),
    ("memory llama-3-8b --no-such-thing 3", "No such option: --no-such-thing"),
])  # fmt: skip
def test_what_is_asked_for_in_another_way_says_how(llmcalc, line, said):
    got = llmcalc(line)
    assert (got.code, got.err.count("\n")) == (2, 1)
    assert said in got.err


def test_every_name_here_exists_and_no_foreign_one_hides_it():
    """Each target is an option of some command; no word stands for two things in one table and another."""
    groups = [typer_of(n) for n in COMMANDS if n != "sweep"]
    made = [c for g in groups for c in (g, *getattr(g, "commands", {}).values())]
    have = {flag for c in made for p in c.params for flag in p.opts}
    assert set(foreign.SAME) | {x.partition("=")[0] for x in foreign.ALONE.values()} <= have
    kinds = [{w for x in foreign.SAME.values() for w in x.split()}, set(foreign.ALONE), set(foreign.ARGUMENTS),
             set(foreign.VALUED.split()), set(foreign.FLAGS.split()), set(foreign.OTHERWISE)]  # fmt: skip
    assert sum(map(len, kinds)) == len(set().union(*kinds))


@pytest.mark.parametrize(("line", "said"), [
    ("memory llama-3.1-8b Q4_K_M", "Q4_K_M: no option stands before it. Perhaps --quantization Q4_K_M"),
    ("memory llama-3.1-8b 4090", "4090: no option stands before it. Perhaps --gpu 4090"),
    ("gpus h100 b200", "b200: no option stands before it\n"),
    ("memory train -m llama-3-8b", "train is no model. The model comes first: llmcalc memory MODEL --mode training"),
    ("kvcache qwen3-8b --model=llama-3-8b", "qwen3-8b stands where a model does, and --model llama-3-8b names one"),
    ("plan train gpt2 -m llama-3-8b --tokens 1T", "gpt2 stands where a model does, and -m llama-3-8b names one"),
    ("zero foo --gpus 8 -m llama-3-8b", "foo stands where a model does"),
    ("memory llama-3-8b --recipe trl", "unknown --recipe 'trl'. TRL's trainers: --recipe sft, dpo, reward or grpo\n"),
    ("memory llama-3-8b --recipe Liger", "unknown --recipe 'liger'. Liger's kernels: --kernels liger\n"),
    ("memory qwen3-8b --engine vllm --max-model-len auto", "takes the longest that fits, which --largest seq-len"),
    ("memory qwen3-8b -q f16", "unknown --quantization 'f16'. The type of all weights is --dtype f16"),
    ("memory qwen3-8b -q exl2", "unknown --quantization 'exl2'. Names: llmcalc docs formats"),
    ("memory llama-3-8b -c 8k", "--ctx-size is of llama.cpp: add --engine llama.cpp"),
    ("memory llama-3-8b --max-num-seqs 8", "--max-num-seqs is of vLLM: add --engine vllm"),
    ("memory llama-3-8b --max-model-len 8k", "--max-model-len is of serving engines: add --engine vllm"),
    ("memory llama-3-8b --method dpo", "unknown --method 'dpo'. It is a recipe of memory and train: --recipe dpo"),
    ("memory Qwen3-8B-Q4_K_M.gguf", "no such file. Without it: --model qwen3-8b --quantization q4_k_m"),
    ("memory someone/Meta-Llama-3.1-8B-Instruct", "Its base may be the preset 'llama-3.1-8b': --model llama-3.1-8b\n"),
    ("memory llama-3.1-8b:q4_k_m", "'llama-3.1-8b': --model llama-3.1-8b --quantization q4_k_m"),
])  # fmt: skip
def test_what_people_type_says_what_to_type(llmcalc, line, said):
    got = llmcalc(line)
    assert (got.code, got.err.count("\n")) == (2, 1)
    assert said in got.err


@pytest.mark.parametrize(("said", "meant"), [
    ("4-bit", "nf4"), ("8-bit", "int8"), ("gptq-int4", "gptq"), ("gptq-int8", "gptq-8bit"), ("awq-int4", "awq"),
    ("Q4_K", "q4_k_m"), ("q5-k", "q5_k_m"),
])  # fmt: skip
def test_quantisations_as_people_say_them(llmcalc, said, meant):
    line = "memory qwen3-8b --format json --quantization"
    assert llmcalc(f"{line} {said}").results == llmcalc(f"{line} {meant}").results


def test_auto_is_what_is_taken_where_nothing_is_given(llmcalc):
    line = "memory llama-3-8b --engine vllm --gpu h100-sxm --format json"
    assert llmcalc(f"{line} --dtype auto --kv-cache-dtype auto").out == llmcalc(line).out


def test_chinchilla_takes_the_model_first_too(llmcalc):
    assert llmcalc("chinchilla llama-3-8b").out == llmcalc("chinchilla --model llama-3-8b").out != ""


def test_more_of_ollamas_names(llmcalc):
    for tag, model in (("qwen3:30b", "qwen3-30b-a3b"), ("mistral:7b", "mistral-7b-v0.3"), ("glm4:9b", "glm-4-9b")):
        assert f"{tag}: Ollama's name of {model} in q4_k_m" in llmcalc(f"memory {tag}").err
    for tag, full in (("llama3.2", "llama3.2:3b"), ("qwen3:latest", "qwen3:8b"), ("gemma3", "gemma3:4b")):
        assert llmcalc(f"memory {tag} --format json").results == llmcalc(f"memory {full} --format json").results
    shown, own = (llmcalc(f"models {name} --format json") for name in ("deepseek-r1:32b", "qwen2.5-32b"))
    assert shown.results == own.results


def test_names_are_those_of_programs():
    declared = {name for names in json.loads(RECORD.read_text()).values() for name in names}
    rest = [*WORDS.split(), *ELSEWHERE.split(), *EARLIER.split(), OFF]
    assert sorted(set(listed()) - declared) == sorted(rest)
