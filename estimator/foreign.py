"""Options of other programs as people paste them: what they are called here, and which change nothing here.

Looked at only where a command line has an option that the command does not know. Not all options of any program: which
of these names vLLM, SGLang, TGI, llama.cpp, Ollama, transformers, TRL, peft, Accelerate, LLaMA-Factory, Axolotl and
Megatron-LM declare, and in which version, is recorded in tests/core/foreign_names.json; the rest is named in its test.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from estimator.errors import InputError

# option here -> what other programs call it; the first of several that the command has
SAME: dict[str, str] = {
    "--tensor-parallel": "tensor-parallel-size tp tp-size tensor-model-parallel-size num-shard",
    "--pipeline-parallel": "pipeline-parallel-size pp pp-size pipeline-model-parallel-size",
    "--data-parallel": "data-parallel-size dp dp-size",
    "--context-parallel": "context-parallel-size cp cp-size",
    "--expert-parallel": "expert-parallel-size ep ep-size moe-ep-size expert-model-parallel-size",
    "--expert-tensor-parallel": "expert-tensor-parallel-size",
    "--kv-dtype": "kv-cache-dtype kv-cache-type cache-dtype",
    "--quantization": "quantize quant quantization-method",
    "--max-model-len": "max-seq-len max-sequence-length context-length",
    "--max-num-seqs": "max-running-requests max-concurrent-requests max-batch-size",
    "--max-num-batched-tokens": "max-num-tokens max-prefill-tokens",
    "--mem-fraction-static": "mem-fraction",
    "--kv-fraction": "kv-cache-free-gpu-memory-fraction free-gpu-memory-fraction kv-cache-free-gpu-mem-fraction",
    "--block-size": "page-size",
    "--pool-bytes": "kv-cache-memory-bytes",
    "--ctx-size": "ctx context num-ctx n-ctx context-length context-size max-context",
    "--context": "context-length",
    "--gpu-layers": "num-gpu gpu-offload",
    "--parallel": "num-parallel",
    "--model-draft": "draft",
    "--model": "model-path model-id model-name model-name-or-path pretrained-model-name-or-path base-model",
    "--gpu": "gpu-type card accelerator",
    "--gpu-memory": "vram",
    "--gpus": "num-gpus n-gpus ngpu ngpus world-size nproc-per-node num-processes",
    "--batch-size": "per-device-train-batch-size train-batch-size micro-batch-size micro-batch batch bs "
                    "concurrency users",
    "--accumulation": "gradient-accumulation-steps gradient-accumulation grad-accum",
    "--seq-len": "max-seq-length max-length sequence-length sequence-len seq-length cutoff-len input-len input-tokens "
                 "prompt-len prompt-tokens random-input-len context-length context",
    "--new-tokens": "output-len output-tokens max-new-tokens max-tokens random-output-len n-predict predict",
    "--rank": "lora-r lora-rank",
    "--targets": "target-modules lora-target-modules lora-target",
    "--optimizer": "optim",
    "--attention": "attn-implementation attn",
    "--checkpointing": "recompute-granularity activation-checkpointing",
    "--stage": "zero-stage zero",
    "--usd": "budget max-cost",
    "--epochs": "num-train-epochs num-epochs",
    "--steps": "max-steps train-iters",
    "--examples": "num-examples dataset-size samples",
    "--tokens": "train-tokens num-tokens",
    "--dtype": "precision torch-dtype",
    "--rate": "request-rate qps rps",
    "--concurrency": "max-concurrency users",
}  # fmt: skip
# words that stand alone -> an option here with its value
ALONE: dict[str, str] = {
    "gradient-checkpointing": "--checkpointing=full", "use-gradient-checkpointing": "--checkpointing=full",
    "load-in-4bit": "--quantization=nf4", "load-in-8bit": "--quantization=int8", "use-liger-kernel": "--kernels=liger",
    "use-flash-attn": "--attention=sdpa", "sample-packing": "--packing", "padding-free": "--packing",
    "torch-compile": "--compile", "enable-expert-parallel": "--expert-parallel=all",
    "enable-ep-moe": "--expert-parallel=all", "use-peft": "--method=lora",
    "use-bnb-nested-quant": "--quantization=nf4-dq",
    "bnb-4bit-use-double-quant": "--quantization=nf4-dq", "use-dora": "--method=dora",
    "disable-cuda-graph": "--enforce-eager", "use-liger": "--kernels=liger", "qlora": "--method=qlora",
    "enable-prefix-caching": "--prefix-caching=on", "no-enable-prefix-caching": "--prefix-caching=off",
    "fp8": "--quantization=fp8",
    "4bit": "--quantization=nf4", "8bit": "--quantization=int8", "activation-offloading": "--activation-offload",
    "liger": "--kernels=liger", "liger-kernel": "--kernels=liger", "language-model-only": "--part=text",
    "train": "--mode=training", "training": "--mode=training", "inference": "--mode=inference",
    "json": "--format=json", "csv": "--format=csv",
}  # fmt: skip
# an argument of peft by its name
ARGUMENTS = ("lora-dropout", "lora-alpha", "use-rslora")
# what changes none of these numbers, with a value and without
VALUED = (
    "port api-key served-model-name seed download-dir load-format tokenizer tokenizer-mode tool-call-parser "
    "reasoning-parser chat-template uvicorn-log-level log-level max-cpu-loras revision threads t threads-batch tb "
    "temp temperature top-k top-p min-p repeat-penalty prompt p file alias learning-rate lr lr-scheduler-type "
    "warmup-ratio warmup-steps weight-decay logging-steps save-steps save-strategy eval-steps report-to output-dir "
    "run-name dataset dataset-name hostname max-input-tokens max-input-length numa prio beta num-workers "
    "dataloader-num-workers schedule-policy lora-modules distributed-executor-backend master-addr master-port "
    "node-rank adam-beta1 adam-beta2 adam-epsilon generation-config override-generation-config hf-token "
    "tokenizer-revision code-revision config-format attention-backend structured-outputs-config "
    "allowed-local-media-path max-logprobs scheduling-policy all2all-backend distributed-timeout-seconds "
    "data-parallel-address data-parallel-rpc-port data-parallel-backend data-parallel-rank data-parallel-start-rank "
    "kv-transfer-config kv-events-config reasoning-config mm-processor-kwargs media-io-kwargs stream-interval "
    "otlp-traces-endpoint ssl-keyfile ssl-certfile root-path chat-template-content-format response-role "
    "api-server-count swap-space safetensors-load-strategy decode-attention-backend prefill-attention-backend "
    "sampling-backend grammar-backend dist-init-addr nccl-port random-seed log-level-http watchdog-timeout "
    "schedule-conservativeness moe-runner-backend moe-a2a-backend load-balance-method tokenizer-path "
    "tokenizer-worker-num preferred-sampling-params lora-paths warmups cache-reuse cache-ram reasoning-budget "
    "reasoning-format chat-template-file chat-template-kwargs main-gpu mg rope-scaling rope-scale rope-freq-base "
    "rope-freq-scale yarn-orig-ctx yarn-ext-factor yarn-attn-factor yarn-beta-slow yarn-beta-fast slot-save-path "
    "slot-prompt-similarity sps threads-http timeout samplers repeat-last-n presence-penalty frequency-penalty "
    "mirostat grammar json-schema system-prompt sys log-file api-key-file ctx-checkpoints swa-checkpoints cpu-mask "
    "cpu-range poll logging-dir logging-strategy eval-strategy per-device-eval-batch-size save-total-limit "
    "metric-for-best-model max-grad-norm lr-scheduler-kwargs data-seed resume-from-checkpoint hub-model-id "
    "hub-strategy dataloader-prefetch-factor dataset-text-field dataset-num-proc label-names"
)
FLAGS = (
    "trust-remote-code disable-log-requests disable-log-stats enable-auto-tool-choice async-scheduling "
    "enable-chunked-prefill mlock no-mmap mmap jinja cont-batching cb no-warmup conversation cnv interactive color "
    "verbose v metrics enable-metrics no-webui push-to-hub do-train do-eval overwrite-output-dir sharded "
    "enable-prompt-tokens-details no-context-shift group-by-length disable-custom-all-reduce disable-radix-cache "
    "enable-log-requests enable-sleep-mode disable-cascade-attn skip-tokenizer-init disable-overlap-schedule "
    "enable-mixed-chunk enable-p2p-check enable-cache-report log-requests skip-server-warmup enable-nan-detection "
    "enable-symm-mem slots no-slots warmup perf no-perf no-jinja context-shift cache-prompt no-cache-prompt simple-io "
    "special escape no-escape verbose-prompt offline check-tensors log-disable log-timestamps log-prefix no-ui webui "
    "use-tqdm-on-load load-best-model-at-end ddp-find-unused-parameters dataloader-pin-memory remove-unused-columns "
    "disable-tqdm tf32 greater-is-better logging-first-step save-only-model allow-credentials"
)
# what is asked for in another way; where all options that its text names are given too, it adds nothing
OTHERWISE: dict[str, str] = {
    "enable-lora": "--max-loras N makes room for adapters",
    "speculative-config": "infer --draft-model MODEL --gamma N times a draft",
    "num-speculative-tokens": "infer --draft-model MODEL --gamma N times a draft",
    "speculative-draft-model-path": "infer --draft-model MODEL --gamma N times a draft",
    "num-gpu-blocks-override": "--pool-bytes BYTES takes the pool of blocks as given",
    "compilation-config": "--enforce-eager leaves CUDA graphs out; other settings are not counted",
    "max-cudagraph-capture-size": "CUDA graphs are those of the engine's own sizes, --enforce-eager leaves them out",
    "hf-overrides": "--set KEY=VALUE says what else a config has",
    "json-model-override-args": "--set KEY=VALUE says what else a config has",
    "hf-repo": "--model hf:OWNER/NAME reads a repository's config, --model FILE.gguf a file's header",
    "hf": "--model hf:OWNER/NAME reads a repository's config, --model FILE.gguf a file's header",
    "hfr": "--model hf:OWNER/NAME reads a repository's config, --model FILE.gguf a file's header",
    "device": "--gpu CARD is the card, --gpus N how many there are",
    "speculative-algorithm": "infer --draft-model MODEL --gamma N times a draft",
    "num-generations": "--batch-size is how many completions a GPU scores at once",
    "bf16": "--autocast bf16 is mixed precision; --dtype bf16 loads the weights so",
    "fp16": "--autocast fp16 is mixed precision; --dtype fp16 loads the weights so",
    "deepspeed": "--recipe deepspeed --stage N says what of its file counts here",
    "fsdp": "--gpus N --stage 3 is FSDP",
    "days": "plan train looks for layouts, and for the largest model, within a time",
    "nodes": "--gpus N counts the GPUs of all nodes, --gpus-per-node N those of one",
    "num-nodes": "--gpus N counts the GPUs of all nodes, --gpus-per-node N those of one",
    "nnodes": "--gpus N counts the GPUs of all nodes, --gpus-per-node N those of one",
    "latency": "--ttft TIME is to the first token at most, --itl TIME between tokens",
    "slo": "--ttft TIME is to the first token at most, --itl TIME between tokens",
    "max-hours": "--days X is how long it may take: 0.25",
    "cpu-offload-gb": "weights on the host are not counted of this engine; --engine llama.cpp --gpu-layers N is",
    "split-mode": "layers are dealt whole here, as by --split-mode layer; rows are not described",
    "sm": "layers are dealt whole here, as by -sm layer; rows are not described",
}  # fmt: skip
# what changes nothing with one of these values
HARMLESS = {"device": ("cuda", "gpu", "auto"), "split-mode": ("layer",), "sm": ("layer",)}
# an adapter's options in other programs: where no method is given it is LoRA, over a base in 4 bits QLoRA
OF_LORA = ("lora-r", "lora-rank", "lora-alpha", "lora-dropout", "lora-target-modules", "lora-target", "use-peft")
FOUR_BITS = ("--quantization=nf4", "--quantization=nf4-dq")
# what a server listens on; --host here is llama.cpp's memory
_ADDRESS = re.compile(r"\d+(\.\d+){3}$|localhost$|\[?::1?\]?$")
_SWITCHED = ("true", "false", "1", "0")
_CONTEXT = "--ctx-size"  # of llama.cpp, Ollama and LM Studio; --max-model-len where another engine is named


def _same(name: str, have: Mapping[str, bool], served: bool) -> str | None:
    """The option that the command has for another program's; served: by an engine that is not llama.cpp."""
    skipped = _CONTEXT if served else "--max-model-len" if _CONTEXT in have and name == "context-length" else ""
    return next((o for o, words in SAME.items() if o in have and o != skipped and name in words.split()), None)


def _served(words: Sequence[str]) -> bool:
    named = [b for a, b in pairwise(words) if a == "--engine"]
    named += [w.partition("=")[2] for w in words if w.startswith("--engine=")]
    return any(n.lower().replace("-", "") in ("vllm", "sglang", "tgi", "tensorrtllm", "trtllm") for n in named)


def meant(words: Sequence[str], have: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """(the words with options of other programs as they are here, options that change nothing and were left out).

    have: the options of the command, and whether each takes a value. InputError for one that is asked for otherwise.
    """
    served, said = _served(words), {w.partition("=")[0] for w in words}
    out: list[str] = []
    idle: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, eq, value = word.partition("=")
        name = flag.lstrip("-").replace("_", "-").lower()
        if flag == "--host" and _ADDRESS.match(value or (rest[0] if rest else "")):
            idle.append(flag)
            rest = rest if eq else rest[1:]
        elif not flag.startswith("-") or _number(flag):
            out.append(word)
        elif (own := flag if flag in have else f"--{name}") in have:
            if have[own]:
                out.append(f"{own}{eq}{value}")
                out += [rest.pop(0)] if rest and not eq else []
            else:
                out += [own] if _on(value, rest) else []
        elif same := _same(name, have, served):
            out.append(f"{same}{eq}{value}")
        elif name in ALONE and (own := ALONE[name].partition("=")[0]) in have:
            if own == "--expert-parallel" and "--stage" in have and "--engine" not in said:
                raise InputError(f"{flag}: of an engine: add --engine vllm; in training {own} N, over how many GPUs")
            out += [ALONE[name]] if _on(value, rest) else []
        elif name in ("bf16", "fp16") and "--autocast" in have and (value or (rest or [""])[0]).lower() in _SWITCHED:
            out += [f"--autocast={name}"] if _on(value, rest) else []  # the Trainer's, which takes true or false
        elif name in ("hf", "hfr", "hf-repo") and "--quantization" in have and (eq or rest):
            out += _tagged(flag, value if eq else rest.pop(0))
        elif name in ARGUMENTS and "--arg" in have and (eq or rest):
            out += ["--arg", f"{name.replace('-', '_')}={value if eq else rest.pop(0)}"]
        elif name in VALUED.split() or name in FLAGS.split() or _adds_nothing(name, said) or (
            (value or (rest or [""])[0]).lower() in HARMLESS.get(name, ())
        ):
            idle.append(flag)
            if not eq and rest and (rest[0].lower() in _SWITCHED if name in FLAGS.split() else _value(rest[0])):
                rest.pop(0)
        elif name in OTHERWISE:
            raise InputError(f"{flag}: {OTHERWISE[name]}")
        else:
            out.append(word)
    return _with_method(out, words, have), idle


def _with_method(out: list[str], words: Sequence[str], have: Mapping[str, bool]) -> list[str]:
    """The words with the method that options of an adapter mean; doubly quantised where either option says so."""
    if FOUR_BITS[1] in out:
        out = [w for w in out if w != FOUR_BITS[0]]
    names = {w.partition("=")[0].lstrip("-").replace("_", "-").lower() for w in words if w.startswith("-")}
    said = [w for w in out if w.partition("=")[0] in ("--method", "--adapter") and w != "--method=lora"]
    if "--method" not in have or said or not any(n in names for n in OF_LORA):
        return out
    four = any(w in out for w in FOUR_BITS) and "--quantization" in have
    return [*(w for w in out if w != "--method=lora"), f"--method={'qlora' if four else 'lora'}"]


def _tagged(flag: str, repository: str) -> list[str]:
    """llama.cpp's ``-hf OWNER/NAME-GGUF:MIX`` as a preset and its mix; InputError where there is no such preset.

    Without a tag llama.cpp takes Q4_K_M: common/arg.cpp, --hf-repo ("default to Q4_K_M").
    """
    from estimator.names import read
    from estimator.presets import load_model_preset
    from estimator.sources.near import base_of
    from estimator.storage.gguf_mix import MIXES

    name, _, tag = repository.rpartition("/")[2].partition(":")
    base = base_of(name)
    mix = str(read("quantization", tag or "q4_k_m"))
    if base is None or mix not in MIXES or (not tag and "storage" in load_model_preset(base)[1]):
        model = f"or a preset and its mix: --model {base or 'NAME'} --quantization q4_k_m"
        raise InputError(f"{flag} {repository[:80]}: give the path of the file: --model FILE.gguf, {model}")
    return ["--model", base, "--quantization", mix]


def _on(value: str, rest: list[str]) -> bool:
    """Whether a flag is switched on: alone, or by the true or false behind it, which is taken off ``rest``."""
    said = value or (rest.pop(0) if rest and rest[0].lower() in _SWITCHED else "")
    return said.lower() not in ("false", "0")


def _adds_nothing(name: str, said: Collection[str]) -> bool:
    """Whether all options that the text of ``OTHERWISE`` names are given too."""
    named = [w for w in OTHERWISE.get(name, "").split() if w.startswith("--")]
    return bool(named) and all(w in said for w in named)


def option_for(word: str) -> str:
    """What a word that stands alone may be the value of: ``--gpu WORD``, ``--quantization WORD``, or ""."""
    from estimator.names import read
    from estimator.presets import find
    from estimator.storage.gguf_mix import MIXES
    from estimator.storage.schemes import SCHEMES

    if find("gpus", word):
        return f"--gpu {word}"
    key = read("quantization", word)
    return f"--quantization {word}" if key in MIXES or key in SCHEMES else ""


def _value(word: str) -> bool:
    return not word.startswith("-") or _number(word)


def _number(word: str) -> bool:
    return word[:2] != "--" and word[1:].replace(".", "", 1).replace("e-", "", 1).isdigit()


__all__ = ["meant", "option_for"]
