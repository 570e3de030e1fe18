"""Every message that gives advice: a line that gets it, and the line that follows it.

``CASES``: (what was typed, what was typed then). ``EXEMPT``: advice that no command line of a test can follow, and why.
Names in braces are files of :func:`files`.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.headers.make import gguf, safetensors

ZERO = "zero --model llama-3-8b --gpus 8"
TRAIN = "memory llama-3-8b --mode training"
STEP = "train --model llama-3-8b --gpu h100-sxm --gpus 8"

SCENARIO = 'title = "x"\nanswers = ["a"]\n[quantities.a]\n{}\n'

CASES: list[tuple[str, str]] = [
    ("llama-3-8b", "memory llama-3-8b"),
    ("finetune llama-3-8b", "memory llama-3-8b --method lora"),
    ("train --model llama-3-8b --gpu 8xh100", "train --model llama-3-8b --gpu h100-sxm --gpus 8"),
    ("memory llama-3-8b --gpu-memory 24", "memory llama-3-8b --gpu-memory 24GB"),
    # names
    ("memoryy llama-3-8b", "--help"),
    ("memory --model ''", "models"),
    ("models no-such-model-at-all", "models"),
    ("gpus h1oo-zzzz-qqq", "gpus"),
    ("memory llama-3-8b --gpu h1oo-zzzz-qqq", "gpus"),
    ("docs no-such-topic", "docs"),
    ("explain no-such-formula", "explain"),
    ("explain llama-3-8b", "models llama-3-8b"),
    ("zero --params 7e9 --set hidden_size=64 --gpus 8", "zero --set hidden_size=4096 --gpus 8 --model llama-3-8b"),
    ("zero --model llama-3-8b --params 8e9 --gpus 8", "zero --model llama-3-8b --gpus 8"),
    # memory
    ("memory llama-3-8b --engine llama.cpp --gpu rtx-4090 --largest batch-size --parallel 2",
     "memory llama-3-8b --engine llama.cpp --gpu rtx-4090 --largest batch-size"),
    ("infer llama-3-8b --engine llama.cpp --quantization q4_k_m --gpu 12GB",
     "infer llama-3-8b --engine llama.cpp --quantization q4_k_m --gpu rtx-3060"),
    (f"{TRAIN} --quantization nf4", f"{TRAIN} --quantization nf4 --method lora"),
    ("memory symbolic --mode training", "memory symbolic --mode training --recipe zero-paper"),
    ("memory symbolic --mode training", "peft symbolic"),
    ("memory symbolic --mode training", "zero symbolic"),
    ("memory symbolic --mode training", "kvcache symbolic"),
    ("memory llama-3-8b --recipe all --mode inference", "memory llama-3-8b --recipe all"),
    (f"{TRAIN} --offload optimizer", f"{TRAIN} --gpus 8 --stage 2 --offload all"),
    (f"{TRAIN} --offload all", f"{TRAIN} --offload all --gpus 8 --stage 3"),
    ("memory llama-3-8b --gpus 8 --mode inference", "memory llama-3-8b --gpus 8 --mode training"),
    ("memory llama-3-8b --gpus 8 --gpu h200", "memory llama-3-8b --gpu h200 --engine vllm --tensor-parallel 8"),
    (f"{TRAIN} --gpus 8 --replicas 2", f"{TRAIN} --gpus 8 --replicas 2 --stage 3"),
    (f"{TRAIN} --gpus 8 --fsdp-version 1 --stage 3 --recipe deepspeed",
     f"{TRAIN} --gpus 8 --fsdp-version 1 --stage 3 --recipe torch-bf16"),
    (f"{TRAIN} --gpus 8 --stage 3 --recipe deepspeed --method qlora",
     f"{TRAIN} --gpus 8 --stage 2 --recipe deepspeed --method qlora"),
    (f"{TRAIN} --gpus 8 --stage 3 --recipe deepspeed --method qlora",
     f"{TRAIN} --gpus 8 --stage 3 --recipe torch-bf16 --method qlora"),
    (f"{TRAIN} --gpus 8 --tensor-parallel 2 --recipe torch-bf16",
     f"{TRAIN} --gpus 8 --tensor-parallel 2 --recipe megatron"),
    (f"{TRAIN} --prepare-kbit --method lora", f"{TRAIN} --prepare-kbit --method lora --quantization int8"),
    (f"{TRAIN} --prepare-kbit --method lora", f"{TRAIN} --prepare-kbit --method lora --quantization nf4"),
    ("memory llama-3-8b --ctx-size 4096", "memory llama-3-8b --ctx-size 4096 --engine llama.cpp"),
    ("memory llama-3-8b --engine llama.cpp --gpu-memory-utilization 0.8",
     "memory llama-3-8b --engine llama.cpp --ctx-size 4096"),
    ("memory --model {vision} --images 1", "memory --model {vision} --images 1 --image-size 1024"),
    ("memory --model {vision} --images 1", "memory --model {vision} --images 1 --image-size 1080x1920"),
    ("memory --model {vision} --image-size 1024", "memory --model {vision} --image-size 1024 --images 1"),
    ("memory llama-3-8b --rank 8", "memory llama-3-8b --rank 8 --method lora"),
    ("infer bert-base-uncased-encoder --gpu h100", "flops bert-base-uncased-encoder"),
    ("memory llama-3-8b --method lora --rank 8 --transformers 3.0", "memory llama-3-8b --transformers 4.46"),
    ("memory llama-3-8b --method shadow --targets all-linear", "memory llama-3-8b --method shadow"),
    # printing
    ("peft --method lora --symbols r=a", "peft --method lora --symbols r=a --derive"),
    ("peft --method lora --derive --symbols r=d", "peft --method lora --derive --symbols r=a"),
    ("memory llama-3-8b --output ''", "memory llama-3-8b"),
    ("memory llama-3-8b --output ''", "memory llama-3-8b --output {new}.txt"),
    ("sweep memory llama-3-8b --seq-len 1..8 --output ''", "sweep memory llama-3-8b --seq-len 1..8 --output {new}.csv"),
    ("sweep memory llama-3-8b --seq-len 1..8 --keys ''", "sweep memory llama-3-8b --seq-len 1..8"),
    ("sweep memory llama-3-8b --seq-len 1..8 --format parquet", "sweep memory llama-3-8b --seq-len 1..8"),
    # sizes without a config
    ("kvcache --model {weights}", "models {weights}"),
    ("kvcache --model {weights}", "kvcache --model {llama}"),
    ("kvcache --model {llama} --set hiden_size=128", "kvcache --model {llama} --set hidden_size=128"),
    ("kvcache --model {vision} --set text_config.hiden_size=128",
     "kvcache --model {vision} --set text_config.hidden_size=128"),
    # peft
    ("peft --matrix 120x120 --method lora --rank 8 --reduction 90%", "peft --matrix 120x120 --method lora --rank 8"),
    ("peft --model llama-3-8b --method lora --rank 8 --arg r=4", "peft --model llama-3-8b --method lora --rank 8"),
    ("peft --model mamba-130m --method lora --targets out_proj",
     "peft --model mamba-130m --method lora --targets in_proj"),
    # kvcache, flops, zero
    ("kvcache llama-3-8b --batch-size 4 --shared-prefix 100 --cache static",
     "kvcache llama-3-8b --batch-size 4 --shared-prefix 100 --cache paged"),
    ("kvcache llama-3-8b --batch-size 4 --shared-prefix 100 --cache static",
     "kvcache llama-3-8b --batch-size 4 --shared-prefix 100 --cache dynamic"),
    ("zero --model llama-3-8b --gpus 8 --sequence-parallel",
     "zero --model llama-3-8b --gpus 8 --sequence-parallel --tensor-parallel 2"),
    ("zero --model llama-3-8b --gpus 8 --context-parallel 2",
     "zero --model llama-3-8b --gpus 8 --context-parallel 2 --seq-len 8192"),
    ("zero --model llama-3-8b --gpus 9 --tensor-parallel 2", "zero --model llama-3-8b --gpus 8 --tensor-parallel 2"),
    ("zero --model llama-3-8b --gpus 8 --offload-to nvme",
     "zero --model llama-3-8b --gpus 8 --offload-to nvme --offload all --stage 3"),
    ("zero --model llama-3-8b --gpus 8 --offload-to nvme",
     "zero --model llama-3-8b --gpus 8 --offload-to nvme --offload optimizer --stage 3"),
    ("zero --model albert-base-v2 --gpus 8 --pipeline-parallel 2", "zero --model albert-base-v2 --gpus 8"),
    (f"{ZERO} --method lora --recipe deepspeed", "memory llama-3-8b --mode training --recipe deepspeed --method lora"),
    (f"{ZERO} --method lora --tensor-parallel 2", f"{ZERO} --method lora"),
    (f"{ZERO} --method lora --seq-len 128", "memory llama-3-8b --mode training --method lora --seq-len 128"),
    ("zero --params 7e9 --gpus 8 --method lora", f"{ZERO} --method lora"),
    (f"{TRAIN} --gpus 8 --pipeline-parallel 2 --recipe torch-bf16",
     f"{TRAIN} --gpus 8 --pipeline-parallel 2 --recipe megatron"),
    (f"{TRAIN} --loss parallel", f"{TRAIN} --loss parallel --gpus 8 --tensor-parallel 2 --stage 2 --recipe torch-bf16"),
    (f"{TRAIN} --gpus 8 --stage 3 --recipe deepspeed --fsdp-wrap tables",
     f"{TRAIN} --gpus 8 --stage 3 --recipe torch-bf16 --fsdp-wrap tables"),
    ("memory mixtral-8x7b --mode training --gpus 8 --tensor-parallel 2 --stage 2 --recipe torch-bf16",
     "memory mixtral-8x7b --mode training --gpus 8 --tensor-parallel 2 --stage 2 --recipe megatron"),
    (f"{TRAIN} --recipe torch-bf16 --gpus 8 --context-parallel 2",
     f"{TRAIN} --recipe torch-bf16 --gpus 8 --context-parallel 2 --stage 3"),
    ("zero --model {weights} --gpus 4 --tensor-parallel 2", "zero --model {weights} --gpus 4"),
    # train
    ("train --model symbolic --gpu h100-sxm", "train --model llama-3-8b --gpu h100-sxm"),
    (f"{STEP} --checkpointing selective", f"{STEP} --checkpointing full"),
    (f"{STEP} --checkpointing selective",
     "memory --model llama-3-8b --mode training --recipe megatron --checkpointing selective"),
    (f"{STEP} --stage 3 --offload all --recipe torch-mixed --offload-to nvme",
     f"{STEP} --stage 3 --offload all --recipe deepspeed"),
    (f"{STEP} --tp-comm-overlap", f"{STEP} --tp-comm-overlap --tensor-parallel 2"),
    # plan
    # chinchilla
    ("chinchilla --model mixtral-8x7b --active-fraction 0.5", "chinchilla --model mixtral-8x7b"),
    ("chinchilla --params 7e9 --gpu m1 --dtype fp8", "chinchilla --params 7e9 --gpu h100-sxm --dtype fp8"),
    ("chinchilla --train-params 7e9 --train-tokens 1e12", "chinchilla --params 7e9 --train-tokens 1e12"),
    # smaller commands
    ("models zzz*", "models"),
    ("gpus --min-memory 999GB --vendor intel", "gpus"),
    ("decode tree --sequences '1 2;1 3' --heads '2 3;4 5'", "decode tree --sequences '1 2;1 3'"),
    ("decode tree --sequences '1 2;1 3' --heads '2 3;4 5'", "decode tree --heads '2 3;4 5'"),
    ("decode tree", "decode tree --sequences '1 2 3; 1 2 4'"),
    ("compress prune", "compress prune --channels 0.5"),
    ("compress prune --channels 0.5 --weights 0.5", "compress prune --weights 0.5"),
    ("peft --model llama-3-8b --method lora --rank 8 --budget 1e7",
     "peft --model llama-3-8b --method lora --budget 1e7"),
    ("memory llama-3-8b --engine llama.cpp --cache-type-v q8_0 --flash-attn off",
     "memory llama-3-8b --engine llama.cpp --cache-type-v q8_0 --flash-attn on"),
    ("memory llama-3-8b --engine llama.cpp --cache-type-v q8_0 --flash-attn off",
     "memory llama-3-8b --engine llama.cpp --cache-type-v f16 --flash-attn off"),
    ("memory deepseek-v2-lite --engine llama.cpp --cache-type-v q8_0",
     "memory deepseek-v2-lite --engine llama.cpp --cache-type-v q8_0 --cache-type-k q8_0"),
    ("memory qwen3-30b-a3b -q q4_k_m --override-tensor exps=CUDA0",
     "memory qwen3-30b-a3b -q q4_k_m --gpu rtx-3090,rtx-3060 --tensor-split 2,1"),
    ("memory qwen3-30b-a3b -q q4_k_m --override-tensor ffn_up_exps=CPU",
     "memory qwen3-30b-a3b -q q4_k_m --override-tensor exps=CPU"),
    ("memory llama-3-8b -q q4_k_m -b 512", "memory llama-3-8b -q q4_k_m --logical-batch 512"),
    ("memory llama-3-8b --engine llama.cpp --gpu rtx-4090 --tensor-split 1,1",
     "memory llama-3-8b --engine llama.cpp --gpu rtx-4090 --tensor-split 1"),
    ("memory llama-3-8b --kv-dtype fp64", "memory llama-3-8b --kv-dtype fp8"),
    ("kvcache llama-3-8b --kv-dtype fp64", "kvcache llama-3-8b --kv-dtype fp8"),
    ("infer symbolic --gpu h100", "kvcache symbolic"),
    ("infer symbolic --gpu h100", "flops symbolic"),
    ("infer llama-3-8b --gpu h100 --dtype int4", "infer llama-3-8b --gpu h100 --quantization nf4"),
    (f"{ZERO} --optimizer muon --recipe torch-bf16", f"{ZERO} --optimizer adamw --recipe torch-bf16"),
    ("zero symbolic --gpus 8 --stage 1 --recipe torch-bf16", "zero symbolic --gpus 8 --stage 2 --recipe torch-bf16"),
    ("zero symbolic --gpus 8 --stage 1 --recipe torch-bf16", "zero symbolic --gpus 8 --stage 1 --recipe zero-paper"),
    (f"{STEP} --steps 10 --tokens 1e9", f"{STEP} --tokens 1e9"),
    ("sweep memory llama-3-8b --seq-len 1..900000 --batch-size 1..900000 --gpus 1,2",
     "sweep memory llama-3-8b --seq-len 1,900 --batch-size 1,900"),
    ("peft --method lora --derive=nothing", "peft --method lora --derive=short"),
    ("peft --method lora --derive --symbols 5", "peft --method lora --derive --symbols r=a"),
    ("memory symbolic --mode training", "memory symbolic --mode training --recipe megatron --checkpointing full"),
    (f"{TRAIN} --gpus 8 --replicas 2 --recipe deepspeed",
     f"{TRAIN} --gpus 8 --replicas 2 --recipe torch-bf16 --stage 3"),
    (f"{TRAIN} --gpus 8 --replicas 2 --recipe deepspeed",
     f"{TRAIN} --gpus 8 --replicas 2 --recipe torch-mixed --stage 2"),
    ("zero --model llama-3-8b --gpus 8 --replicas 2",
     "memory llama-3-8b --mode training --gpus 8 --replicas 2 --stage 3"),
    ("sweep memory llama-3-8b --seq-len 1..99999999999", "sweep memory llama-3-8b --seq-len 1,99999"),
    ("sweep memory llama-3-8b --seq-len 1..8 --format parquet",
     "sweep memory llama-3-8b --seq-len 1..8 --format csv --output {new}.csv"),
    ("memory --model {plain} --engine llama.cpp --ctx-size 0",
     "memory --model {plain} --engine llama.cpp --ctx-size 512"),
    ("memory --model {plain} --engine llama.cpp --cache-type-k q4_0",
     "memory --model {plain} --engine llama.cpp --cache-type-k f16"),
    ("memory --model {model} --engine llama.cpp --quantization all", "memory --model {model} --engine llama.cpp"),
    ("memory --model {foreign}", "docs extending"),
    ("decode speculative --alpha 0.8 --cost -1", "decode speculative --alpha 0.8 --cost 0.1"),
    ("decode tree --sequences '1 *;1 3'", "decode tree --sequences '1 2;1 3'"),
    ("peft --model gpt2 --method lora --dtype nf4", "peft --model gpt2 --method lora --dtype bf16"),
    ("peft --model {untold} --method p_tuning", "peft --model {untold} --method p_tuning --arg token_dim=64"),
    ("flops llama-3-8b --plot", "docs plots"),
    ("kvcache symbolic --seq-len d", "kvcache symbolic --seq-len n"),
    ("memory hf:Qwen/Qwen3-8B", "memory qwen3-8b"),
    ("kvcache symbolic --gpu h100", "kvcache llama-3-8b --gpu h100"),
    ("kvcache symbolic --plot", "kvcache llama-3-8b --plot"),
    ("zero symbolic --gpus 8 --plot", "zero llama-3-8b --gpus 8 --plot"),
    ("peft symbolic --method lora --reduction 0.9", "peft gpt2 --method lora --reduction 0.9"),
    ("peft symbolic --method lora --reduction 0.9", "peft --matrix 120x120 --method lora --reduction 0.9"),
    ("plan train symbolic --gpu h100-sxm --gpus 8", "plan train gpt2 --gpu h100-sxm --gpus 8"),
    ("plan tune symbolic --gpu h100-sxm", "plan tune gpt2 --gpu h100-sxm"),
    ("plan serve symbolic --gpu h100-sxm", "plan serve gpt2 --gpu h100-sxm"),
    ("memory gpt2 --engine vllm --gpu h100-sxm --mode training",
     "memory gpt2 --engine vllm --gpu h100-sxm --mode inference"),
    ("infer gpt2 --engine vllm --gpu 24GB", "infer gpt2 --engine vllm --gpu h100-sxm"),
    ("sweep memory gpt2 --batch-size 1,2 --plot",
     "sweep memory gpt2 --seq-len 1k:32k:x2 --keys need_bytes --gpu h100 --plot"),
    ("memory symbolic --mode training --recipe megatron", "memory gpt2 --mode training --recipe megatron"),
    ("peft --model {odd} --method lora", "peft --model {odd} --method lora --targets q_proj"),
    ("peft --model {odd} --method ia3 --targets q_proj",
     "peft --model {odd} --method ia3 --targets q_proj --arg feedforward_modules=[]"),
    ("memory gpt2 --engine vllm --gpu h100-sxm --dtype int4",
     "memory gpt2 --engine vllm --gpu h100-sxm --quantization int8"),
    ("zero mamba-130m --gpus 8 --tensor-parallel 2 --recipe megatron --seq-len 64",
     "memory mamba-130m --mode training --recipe torch-mixed"),
    ("peft --model qwen3-30b-a3b --method lora",
     "peft --model qwen3-30b-a3b --method lora --targets q_proj,k_proj,v_proj,o_proj"),
    ("peft --model qwen3-30b-a3b --method lora", "peft --model qwen3-30b-a3b --method lora --targets all-linear"),
    ("peft --model t5-base --method shadow", "peft --model t5-base --method shadow --targets encoder.block.0"),
    ("train --model gpt2 --gpu dgx-spark --gpus 8 --stage 3",
     "train --model gpt2 --gpu dgx-spark --gpus 8 --stage 3 --link 10"),
    # chinchilla
    ("chinchilla --model symbolic", "chinchilla --compute 1e21 --derive"),
    ("chinchilla --compute 1e21 --law llama3 --plot contours",
     "chinchilla --compute 1e21 --law llama3 --plot frontier"),
    ("chinchilla --coefficients {law} --law epoch --params 7e9", "chinchilla --coefficients {law} --params 7e9"),
    ("chinchilla --gpu arc-b580 --usd 5", "chinchilla --gpu arc-b580 --usd 5 --price 1"),
    ("chinchilla --law all --compute 1e21 --train-params 7e9", "chinchilla --law all --compute 1e21"),
    ("chinchilla --law all --compute 1e21 --train-params 7e9",
     "chinchilla --law epoch --compute 1e21 --train-params 7e9"),
    ("chinchilla --mfu 0.3 fit {runs}", "chinchilla fit {runs}"),
    # a log
    ("validate {log}", "validate {log} --model llama-3-8b"),
    # what a family does not know
    # fermi
    ("fermi {empty}", "fermi new {new}3.toml"),
    ("fermi {long}", "fermi {right}"),
    ("fermi {negative}", "fermi {right}"),
    ("fermi {flops}", "fermi {right}"),
    ("fermi {unit}", "fermi {right}"),
    ("fermi {brackets}", "fermi {right}"),
    ("fermi {until}", "fermi {right}"),
    ("fermi {listed}", "fermi {right}"),
    ("fermi {own}", "fermi {right}"),
    ("fermi {number}", "fermi {right}"),
    ("fermi {huge}", "fermi {right}"),
    ("fermi landauer --set temprature=3", "fermi landauer --set temperature=3"),
    ("fermi landauer --set temperature=1" + "0" * 400, "fermi landauer --set temperature=1.5e30"),
    ("fermi no-such-scenario", "fermi --list"),
    ("fermi no-such-file.toml", "fermi new {new}.toml"),
    ("fermi brain extra-argument", "fermi new {new}2.toml"),
]
EXEMPT: dict[str, str] = {  # file: why no line of a test can follow it
    "presets.py": "a broken installation",
    "commands/docs/topics.py": "a broken installation",
    "render/streams.py": "a closed standard output",
    "report.py": "without pandas, which the tests have",
    "render/plots.py": "without matplotlib, which the tests have",
    "commands/chinchilla/fit.py": "without numpy and scipy, which the tests have",
    "sweep/write.py": "without pyarrow, which the tests have",
    "sources/hub.py": "a gated or broken hub: tests/sources/test_hub.py",
    "commands/flops/library.py": "with torch and transformers, which the tests do not have",
}


def files(folder: Path) -> dict[str, str]:
    """The files that lines name."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 128}  # fmt: skip
    vision = {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "hidden_size": 64,
              "text_config": {"hidden_size": 64}, "vision_config": {}}  # fmt: skip
    plain = {"model_type": "bloom", "n_embed": 80, "n_layer": 2, "n_head": 2, "vocab_size": 100}
    untold = {"model_type": "distilbert", "dim": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 100}
    odd = {**config, "model_type": "arcee", "hidden_act": "relu2"}
    named = {"llama": config, "odd": odd, "vision": vision, "plain": plain, "untold": untold}
    for name, made in named.items():
        (folder / f"{name}.json").write_text(json.dumps(made))
    safetensors(folder / "weights.safetensors", {"a.weight": ("F32", [100, 64])})
    texts = {
        "law.toml": "E = 1.7\nA = 400\nB = 400\nalpha = 0.3\nbeta = 0.3\n",
        "runs.csv": "params,tokens,loss\n" + "".join(
            f"{n}e7,{d}e8,{1.7 + 400 / (n * 1e7) ** 0.34 + 410 / (d * 1e8) ** 0.28}\n"
            for n in (1, 3, 9, 27) for d in (2, 6, 18)
        ),
        "log.txt": "INFO 01-01 00:00:00 [gpu_worker.py:1] Available KV cache memory: 50.00 GiB\n",
        "empty.toml": 'title = "x"\nanswers = ["a"]\n',
        "long.toml": SCENARIO.format("value = 1" + "0" * 400),
        "range.toml": SCENARIO.format("value = 1\nrange = 'from 2 until 3'"),
        "negative.toml": SCENARIO.format("value = 1\nrange = 'between -2 and 3'\ndistribution = 'lognormal'"),
        "flops.toml": SCENARIO.format("value = 1\nunit = 'FLOPS'"),
        "unit.toml": SCENARIO.format("value = 1\nunit = 'MB^0.5'"),
        "brackets.toml": SCENARIO.format("value = 1\nunit = 'metr'"),
        "until.toml": SCENARIO.format("value = 'between 2 until 3'"),
        "listed.toml": SCENARIO.format("value = 1\nrange = '3'"),
        "own.toml": SCENARIO.format("value = 1") + "[units]\nfortnight = 14\n",
        "number.toml": SCENARIO.format("formula = '1" + "0" * 400 + "'"),
        "huge.toml": SCENARIO.format("value = 1" + "0" * 5000),
        "right.toml": SCENARIO.format("range = 'between 50 and 250'\nunit = 'FLOP/s'")
        + '[quantities.b]\nvalue = 1.5e30\nunit = "piano"\n[units]\npiano = ""\nfortnight = "14 days"\n',
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "foreign.json").write_text(json.dumps({**vision, "model_type": "llava",
     "vision_config": {"model_type": "eva"}}))
    gguf(folder / "model.gguf", {"general.architecture": "llama", "llama.embedding_length": 64, "llama.block_count": 2,
         "llama.attention.head_count": 4, "llama.feed_forward_length": 128, "llama.context_length": 512,
         "llama.vocab_size": 100}, {"token_embd.weight": (0, (100, 64), 25600)})  # fmt: skip
    paths = {path.stem: str(path) for path in folder.iterdir()}
    return {**paths, "new": str(folder / "new")}
