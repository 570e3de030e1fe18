"""Options that several questions have: each is said once, here.

Only questions are made of these, so that no methods are generated for the parts themselves.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from estimator.questions.base import COMMON, Question, Unsaid, option
from estimator.records import dataclass


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Sequences(Question):
    """Sequences and tokens."""

    batch_size: Any = option("1", "Sequences a GPU and step.", "SIZE", short="-b")
    seq_len: Any = option(None, "Tokens a sequence; 8k is 8192.", "TOKENS", short="-s")
    images: Any = option(None, "Images a sequence, whose tokens come before the text's.", "N")
    image_size: Any = option(None, "Of each image: pixels a side, or HEIGHTxWIDTH.", "PIXELS")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Adapted(Question):
    """What is trained: everything, or an adapter of the peft library."""

    method: Any = option(None, "full, lora, dora, qlora, freeze, or any method of peft.", "METHOD")
    rank: Any = option(None, "Rank of the adapter (its default: the peft library's).", "R", short="-r")
    targets: Any = option(None, "Modules: names with commas, all-linear, default, or a regular expression.", "NAMES")
    args: Any = option(
        {}, "A further argument by its name in the peft library; JSON where it parses.", "NAME=VALUE",
        kind="list", flag="arg",
    )  # fmt: skip
    trainable_layers: Any = option(None, "Layers trained from the top (freeze).", "N")
    adapter: Any = option(None, "A folder with an adapter_config.json: its method, targets, base.", "FOLDER")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class StepOptions(Question):
    """How a training step is run."""

    recipe: Any = option(
        None, "trainer, sft, dpo, reward, grpo, unsloth, torchtune, torch, torch-bf16, deepspeed ... or all.", "NAME"
    )
    optimizer: Any = option(
        None, "adamw, adamw-fused, adamw-forloop, adamw8bit, sgd, sgd-momentum, adafactor, lion, muon ...", "NAME"
    )
    attention: Any = option("sdpa", "sdpa (fused kernels) or eager.", "NAME")
    checkpointing: Any = option(Unsaid("none"), "none, selective (attention) or full (every layer).", "NAME")
    quantization: Any = option(
        None, "Of the weights (as the files say): none, nf4, int8, gptq-3bit-g128, awq, q4_k_m ...", "NAME", short="-q"
    )


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Stacked(Question):
    """What the training loop around the model does, and the libraries in it."""

    autocast: Any = option(None, "Of the forward pass: none, bf16 or fp16 (default: the recipe's).", "NAME")
    gradients: Any = option("freed", "Between steps: freed, or kept (zero_grad(set_to_none=False)).", "NAME")
    hold_outputs: Any = option(False, "The loop names the model's outputs during the backward pass.", kind="flag")
    accumulation: Any = option("1", "Micro-batches an optimizer step.", "N")
    kernels: Any = option("torch", "torch, or liger for Liger's norms, MLPs, rotations and loss.", "NAME")
    prepare_kbit: Any = option(False, "peft's prepare_model_for_kbit_training was called.", kind="flag")
    reference: Any = option(None, "dpo, grpo: policy (scores each batch), or precomputed.", "NAME")
    answer_len: Any = option(None, "dpo, grpo: tokens of a sequence that are the answer (half).", "TOKENS")
    packing: Any = option(False, "Pack examples into one row of full length.", kind="flag")
    optimizer_in_backward: Any = option(False, "Step each tensor in the backward pass (LOMO, torchtune).", kind="flag")
    optim_target_modules: Any = option(
        None, "galore, apollo: what they project: all-linear, or parts of names.", "NAMES", of=("optimizer",),
    )  # fmt: skip
    compile: Any = option(False, "torch.compile around the model (inductor).", kind="flag")
    reentrant: Any = option(
        False, "Checkpointing with use_reentrant=True.", kind="flag", of=("checkpointing", "recipe", "prepare_kbit"),
    )  # fmt: skip
    activation_offload: Any = option(False, "Keep activations on the host (TRL, torchtune).", kind="flag")
    transformers: Any = option(None, "Release of transformers: 5 (the default), 4.57 ... 4.45.", "V")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Sharded(Question):
    """How many GPUs share the work, and how."""

    gpus: Any = option(None, "GPUs in all; data parallel where not told otherwise (engines: tensor).", "N")
    stage: Any = option(None, "ZeRO stage: 0, 1, 2 or 3 (zero: or all).", "STAGE")
    replicas: Any = option("1", "Copies of the model, each sharded over gpus / replicas (HSDP).", "N", of=("gpus",))
    fsdp_version: Any = option(
        "2", "FSDP: 2 (fully_shard), or 1 (FullyShardedDataParallel).", "N", of=("gpus", "stage"),
    )  # fmt: skip
    fsdp_wrap: Any = option(
        "layers", "FSDP's units: layers, or tables (embedding and head apart too).", "NAME", of=("gpus", "stage"),
    )  # fmt: skip
    fsdp_root: Any = option(
        "freed", "FSDP2's root after the forward pass: freed, or kept (its default).", "NAME", of=("gpus", "stage"),
    )  # fmt: skip
    overlap_comm: Any = option("on", "DeepSpeed's overlap_comm: on or off.", "NAME", of=("recipe",))
    buckets: Any = option(
        "default", "DeepSpeed's buckets and prefetches: default, or auto (the Trainer's).", "NAME", of=("recipe",),
    )  # fmt: skip
    offload: Any = option("none", "none, optimizer or all.", "NAME")
    offload_to: Any = option("cpu", "cpu or nvme.", "NAME")
    zero_pp: Any = option("", "ZeRO++: qwz, hpz, qgz or all.", "PARTS")
    tensor_parallel: Any = option("1", "GPUs that share each layer.", "N")
    pipeline_parallel: Any = option("1", "Stages the layers are dealt to.", "N")
    sequence_parallel: Any = option(False, "Split norms over the tensor group.", kind="flag", of=("tensor_parallel",))
    context_parallel: Any = option("1", "GPUs that share each sequence.", "N")
    expert_parallel: Any = option("1", "GPUs that share the experts; alone, of an engine: all.", "N")
    expert_tensor_parallel: Any = option(None, "GPUs that share an expert (default: tensor group).", "N", kind="int")
    schedule: Any = option("1f1b", "1f1b, gpipe, interleaved, zb-h1 or zb-h2.", "NAME", of=("pipeline_parallel",))
    virtual_stages: Any = option(1, "Groups of layers a GPU (interleaved).", "N", kind="int", of=("pipeline_parallel",))
    pipeline_split: Any = option(
        "even", "even, or ends: embedding and head count as layers.", "NAME", of=("pipeline_parallel",),
    )  # fmt: skip
    gpus_per_node: Any = option(None, "GPUs that share the fast link (default: the preset's, or 8).", "N", kind="int")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class OnCard(Question):
    """The accelerator that it must fit."""

    gpu: Any = option(None, "A GPU preset (llmcalc gpus lists them), a TOML file of one, or a size: 12GB.", "GPU")
    gpu_memory: Any = option(None, "Memory that a program gets on it, in place of the preset's: 36GB.", "BYTES")
    check_fit: Any = option(False, "Exit with 3 where it does not fit.", kind="flag")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Served(Question):
    """How an engine serves: its options by its own names (llama.cpp, vLLM, SGLang, TensorRT-LLM, TGI)."""

    engine: Any = option(None, "transformers, fused, or a serving engine (default: llama.cpp for GGUF).", "NAME")
    engine_version: Any = option(None, "Version of the engine: 0.19.0.", "V")
    ctx_size: Any = option(None, "llama.cpp: tokens of the context.", "TOKENS", short="-c")
    parallel: Any = option(None, "llama.cpp: sequences.", "N", short="-np")
    logical_batch: Any = option(None, "llama.cpp: tokens a logical batch (2048).", "TOKENS")
    ubatch_size: Any = option(None, "llama.cpp: tokens a micro-batch (512).", "TOKENS", short="-ub")
    flash_attn: Any = option(None, "llama.cpp: on, off or auto.", "NAME", short="-fa")
    cache_type_k: Any = option(None, "llama.cpp: type of the keys: f16, q8_0, q4_0 ...", "NAME", short="-ctk")
    cache_type_v: Any = option(None, "llama.cpp: type of the values.", "NAME", short="-ctv")
    swa_full: Any = option(False, "llama.cpp: window layers cache the whole context.", kind="flag")
    kv_unified: Any = option(False, "llama.cpp: one cache for all sequences.", kind="flag")
    pooling: Any = option(None, "llama.cpp: an encoder's rows to one: mean, cls, last or none.", "NAME")
    outputs: Any = option(None, "llama.cpp: rows of logits in the worst graph, or all.", "N")
    gpu_layers: Any = option(None, "llama.cpp: layers on the GPU, or all.", "N", short="-ngl --n-gpu-layers")
    cpu_moe: Any = option(None, "llama.cpp: layers with experts on the host, or all.", "N", short="-ncmoe --n-cpu-moe")
    override_tensor: Any = option(
        None, "llama.cpp: experts kept on the host by name: 'exps=CPU'.", "LIST", short="-ot"
    )
    tensor_split: Any = option(None, "llama.cpp: shares of several GPUs: 3,1.", "LIST", short="-ts")
    no_kv_offload: Any = option(False, "llama.cpp: caches stay on the host.", kind="flag", short="-nkvo")
    host: Any = option(None, "llama.cpp: the host's memory: dual-channel-ddr5, or 90GB/s.", "NAME")
    mmproj: Any = option(None, "llama.cpp: the vision tower too: f16, bf16, f32.", "NAME", short="-mm")
    model_draft: Any = option(None, "llama.cpp: a draft model's memory too, MODEL or MODEL:MIX.", "MODEL", short="-md")
    lora: Any = option(None, "llama.cpp: adapters beside the model: a GGUF, or a folder peft saved.", "FILES")
    ram: Any = option(
        None, "llama.cpp, --offload: the host's memory (all, where GPUs share it), to ask whether the rest fits: 64GB.",
        "BYTES",
    )  # fmt: skip
    imatrix: Any = option(False, "llama.cpp: the mix was made with an importance matrix.", kind="flag")
    gpu_memory_utilization: Any = option(
        None, "vLLM, TGI: share of the GPU that it may use.", "SHARE",
        short="--cuda-memory-fraction",
    )  # fmt: skip
    max_model_len: Any = option(None, "Engines: longest sequence.", "TOKENS", short="--max-total-tokens")
    max_num_seqs: Any = option(None, "vLLM: sequences at once.", "N")
    max_num_batched_tokens: Any = option(
        None, "vLLM, TGI: tokens a step.", "TOKENS", short="--max-batch-prefill-tokens"
    )
    limit_mm_per_prompt: Any = option(
        None, "vLLM: images, videos of a prompt: video=0, or JSON. Of what has none, none is tried.", "LIMITS"
    )
    prefix_caching: Any = option(None, "vLLM: on or off (hybrids keep a second state a request).", "NAME")
    rate: Any = option(None, "Engines: requests that arrive a second.", "X", kind="float")
    prefix_hit: Any = option(None, "Engines: share of a prompt found in the prefix cache.", "SHARE", kind="float")
    enforce_eager: Any = option(False, "vLLM: no CUDA graphs.", kind="flag")
    max_loras: Any = option(
        None, "vLLM, SGLang: adapters in a step, which have room of their own.", "N", short="--max-loras-per-batch"
    )
    max_lora_rank: Any = option(None, "vLLM, SGLang: the largest rank of an adapter (16).", "N", of=("max_loras",))
    data_parallel: Any = option(None, "vLLM: replicas of the attention.", "N")
    decode_context_parallel: Any = option(
        None, "vLLM: GPUs of the tensor group over which a sequence's cache is dealt.", "N",
        short="-dcp --decode-context-parallel-size",
    )  # fmt: skip
    pool_bytes: Any = option(None, "Take the pool of blocks as given.", "BYTES")
    mem_fraction_static: Any = option(None, "SGLang: share for weights and pool.", "SHARE")
    dp_attention: Any = option(
        False, "SGLang: --data-parallel copies of the attention on the GPUs of --tensor-parallel.", kind="flag",
        short="--enable-dp-attention", of=("data_parallel",),
    )  # fmt: skip
    cuda_graph_max_bs: Any = option(None, "SGLang: sequences of the largest CUDA graph.", "N")
    chunked_prefill_size: Any = option(None, "SGLang: tokens a prefill chunk.", "TOKENS")
    kv_fraction: Any = option(None, "TensorRT-LLM: share of what is free for the cache.", "SHARE")
    tokens_per_block: Any = option(None, "TensorRT-LLM: tokens a block.", "TOKENS")


OF_ENGINES = tuple(f.name for f in fields(Served) if f.name not in ("engine", *COMMON))
