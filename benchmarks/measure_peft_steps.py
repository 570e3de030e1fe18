"""Measure the peak of a training step with adapters of peft, drawn at random over methods, models and settings.

    pip install torch transformers accelerate peft     # bitsandbytes for the packed bases
    python benchmarks/measure_peft_steps.py draw CASES.json [SEED]     # writes cases, each with its prediction
    python benchmarks/measure_peft_steps.py measure CASES.json OUT.json [JOBS]    # on a CUDA card, each in a process
    python benchmarks/measure_peft_steps.py keep OUT.json              # adds to tests/accuracy/peft_steps.json.gz

A step is one of a PyTorch loop (recipe torch) or of transformers.Trainer (recipe trainer); the third is kept. Weights
and tokens are random. BOFT's CUDA extension is left out, as where there is no compiler.
"""

from __future__ import annotations

import gc
import gzip
import json
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SEED = 20_261_127  # of the first draw; of the second, third, and fourth one, two, and three more
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rope_theta": 500_000.0}
MODELS: dict[str, dict[str, Any]] = {
    "llama-3.2-1b-l5": LLAMA | {"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 5, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True},
    "qwen2.5-0.5b-l7": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 151_936,
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 7, "num_attention_heads": 14,
        "num_key_value_heads": 2, "tie_word_embeddings": True},
    "smollm2-360m-l9": LLAMA | {"vocab_size": 49_152, "hidden_size": 960, "intermediate_size": 2560,
        "num_hidden_layers": 9, "num_attention_heads": 15, "num_key_value_heads": 5, "tie_word_embeddings": True},
    "mistral-7b-l2": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "vocab_size": 32_000,
        "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 2, "num_attention_heads": 32,
        "num_key_value_heads": 8, "tie_word_embeddings": False},
    "gemma-2b-l4": {"model_type": "gemma", "architectures": ["GemmaForCausalLM"], "vocab_size": 256_000,
        "hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 1, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True},
}  # fmt: skip
TARGETS = ("q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj", "gate_proj,up_proj,down_proj", "down_proj,q_proj",
           "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj")  # fmt: skip
# method -> ranks to draw from, settings to draw from
METHODS: dict[str, tuple[tuple[int, ...], tuple[dict[str, Any], ...]]] = {
    "oft": ((), ({}, {"oft_block_size": 64}, {"block_share": True}, {"use_cayley_neumann": False})),
    "boft": ((), ({"boft_block_size": 8}, {"boft_block_size": 4}, {"boft_block_size": 16, "boft_dropout": 0.1})),
    "hra": ((2, 4, 8), ({}, {"apply_GS": True})),
    "adalora": ((), ({"total_step": 1000, "init_r": 12}, {"total_step": 1000, "init_r": 24, "lora_dropout": 0.1})),
    "vera": ((64, 256), ({}, {"vera_dropout": 0.1})), "pvera": ((64,), ({}, {"pvera_dropout": 0.1})),
    "loha": ((8, 16), ({}, {"rank_dropout": 0.1})), "hira": ((16, 32), ({}, {"hira_dropout": 0.1})),
    "lokr": ((8,), ({}, {"decompose_both": True, "decompose_factor": 16})),
    "miss": ((32, 64), ({}, {"miss_dropout": 0.1}, {"init_weights": "mini", "mini_r": 64})),
    "osf": ((), ({}, {"effective_rank": 64})), "randlora": ((32,), ({}, {"randlora_dropout": 0.1})),
    "delora": ((8, 32), ({}, {"module_dropout": 0.1})),
    "road": ((), ({}, {"variant": "road_2"}, {"variant": "road_4"})), "c3a": ((), ({"block_size": 64},)),
    "fourierft": ((), ({},)), "waveft": ((), ({}, {"use_idwt": False}, {"wavelet_family": "sym4"})),
    "shira": ((16, 32), ({},)), "gralora": ((16, 32), ({}, {"hybrid_r": 16}, {"gralora_dropout": 0.1})),
    "vblora": ((4,), ({"vector_length": 64},)), "beft": ((), ({},)), "ia3": ((), ({"feedforward_modules": []},)),
    "deft": ((16,), ({}, {"para": True})), "glora": ((8,), ({}, {"config_A_B": "vector"})), "lily": ((16,), ({},)),
    "peanut": ((32,), ({}, {"depth": 1})), "psoft": ((32,), ({},)), "tinylora": ((2,), ({},)),
    "unilora": ((4,), ({},)), "adamss": ((64,), ({},)), "frod": ((), ({},)),
    "supertuning": ((), ({}, {"r": 16})), "ln_tuning": ((), ({},)),
    "prefix_tuning": ((), ({"num_virtual_tokens": 32}, {"num_virtual_tokens": 16, "prefix_projection": True})),
    "p_tuning": ((), ({"num_virtual_tokens": 32},)), "prompt_tuning": ((), ({"num_virtual_tokens": 32},)),
    "trainable_tokens": ((), ({"token_indices": [1, 2, 3, 4]},)),
}  # fmt: skip
CPT = {"cpt_token_ids": list(range(24)), "cpt_mask": [1] * 24, "cpt_tokens_type_mask": [1, 2, 3, 4] * 6}
PATTERN = {"rank_pattern": {r"layers\.(0|1)\..*": 256}}
# the third draw: what was approximate until then
REST: dict[str, tuple[tuple[int, ...], tuple[dict[str, Any], ...]]] = {
    "p_tuning": ((), ({"num_virtual_tokens": 64, "encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 512},
                      {"num_virtual_tokens": 256}, {"num_virtual_tokens": 64, "encoder_hidden_size": 2048})),
    "prompt_tuning": ((), ({"num_virtual_tokens": 256},)),
    "adaption_prompt": ((), ({"adapter_len": 10, "adapter_layers": 2}, {"adapter_len": 64, "adapter_layers": 2})),
    "xlora": ((8, 16), ({"adapters": 2}, {"adapters": 4, "xlora_depth": 2, "xlora_size": 512},
                        {"adapters": 3, "layerwise_scalings": True})),
    "poly": ((4, 8), ({}, {"n_skills": 8, "n_splits": 4}, {"n_tasks": 3, "n_splits": 2})),
    "lora": ((8,), (PATTERN,)), "hira": ((8,), (PATTERN,)), "loha": ((8,), (PATTERN,)),
    "shadow": ((8, 64), ({}, {"shadow_dropout": 0.0}, {"auxiliary_loss_weight": 0.0, "update_hidden_size": 128})),
    "frod": ((), ({"runtime_offload_base_weight": True}, {"frod_dropout": 0.1})),
    "multitask_prompt_tuning": ((), ({"num_virtual_tokens": 64, "num_tasks": 3, "num_ranks": 4},)),
    "cpt": ((), (CPT,)), "cartridge": ((), ({"num_virtual_tokens": 64, "num_frozen_tokens": 8},)),
}  # fmt: skip
NARROW = ("qwen2.5-0.5b-l7", "smollm2-360m-l9")
# the fourth draw has these too
MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "p_tuning": ({"num_virtual_tokens": 20, "encoder_reparameterization_type": "LSTM", "encoder_num_layers": 1},),
    "xlora": ({"adapters": 3, "top_k_lora": 1}, {"adapters": 2, "use_trainable_adapters": True},
              {"adapters": 2, "enable_softmax": False, "enable_softmax_topk": True, "top_k_lora": 2}),
    "shadow": ({"shadow_num_hidden_layers": 2, "shadow_intermediate_size": 1024}, {"share_embeddings": False}),
    "adaption_prompt": ({"adapter_len": 16, "adapter_layers": 1},),
    "poly": ({"n_skills": 2, "n_tasks": 2},),
}  # fmt: skip
LATER: dict[str, dict[str, Any]] = {
    "gpt2-l6": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50_257, "n_embd": 768,
                "n_layer": 6, "n_head": 12, "n_positions": 1024},
}  # fmt: skip
# methods of some models alone: of the families that peft knows; of narrow matrices, where those are decomposed
ONLY = {"adaption_prompt": ("llama-3.2-1b-l5", "mistral-7b-l2", "smollm2-360m-l9"), "frod": NARROW}
WITH_TASKS = ("poly", "multitask_prompt_tuning")  # whose forward pass is told each sequence's task
WHOLE = (*WITH_TASKS, "xlora", "cartridge")  # whose hooks are gone when a checkpointed layer runs again
NO_TARGETS = ("ln_tuning", "prefix_tuning", "p_tuning", "prompt_tuning", "trainable_tokens", "adaption_prompt",
              "shadow", "multitask_prompt_tuning", "cpt", "cartridge")  # fmt: skip
SLOW = ("frod",)  # what takes minutes to decompose wide matrices
PACKED = ("oft", "miss", "vera", "shira")  # methods that unpack a base of 4 bits


def draw(seed: int) -> list[dict[str, Any]]:
    """Two cases of each method, and one over a packed base of those that take one; from the third draw on one of each
    setting and one more."""
    rng, cases, third, fourth = random.Random(seed), [], seed >= SEED + 2, seed >= SEED + 3
    for method, (ranks, settings) in (REST if third else METHODS).items():
        settings = (*settings, *MORE.get(method, ())) if fourth else settings
        for i in range(len(settings) + 1 if third else 3 if method in PACKED else 2):
            packed = i == 2 and not third
            recipe = rng.choice(("torch", "torch", "trainer"))
            recipe = "torch" if method in WITH_TASKS else recipe
            o: dict[str, Any] = {"mode": "training", "method": method, "recipe": recipe}
            if method not in NO_TARGETS:
                o["targets"] = rng.choice(TARGETS[:1] if method in SLOW else TARGETS)
            if ranks:
                o["rank"] = str(rng.choice(ranks))
            o["args"] = dict(settings[i] if third and i < len(settings) else rng.choice(settings))
            dtype, autocast = ("bf16", "none") if packed or i == 0 else rng.choice(
                (("bf16", "none"), ("fp32", "bf16"), ("fp32", "bf16"), ("bf16", "bf16"), ("fp32", "none"))
            )  # fmt: skip
            o |= {"dtype": dtype, "autocast": autocast, "optimizer": "adamw-fused"}
            if method not in NO_TARGETS and dtype == "bf16" and not packed and rng.random() < 0.2:
                o["args"]["autocast_adapter_dtype"] = False
            if packed:
                o["quantization"] = "nf4"
            if rng.random() < 0.25 and "prefix" not in method and not (third and method in WHOLE):
                o["checkpointing"] = "full"
            o |= {"batch_size": str(rng.choice((1, 2, 4))), "seq_len": str(rng.choice((256, 512, 1024)))}
            known = (*ONLY[method], *LATER) if fourth and method == "adaption_prompt" else ONLY.get(method, MODELS)
            model = rng.choice(sorted(known if third else MODELS))
            drawn = "/fourth" if fourth else "/third" if third else ""
            name = f"{method}/{i}/{recipe}/{model}/{dtype}-{autocast}{drawn}"
            cases.append({"id": name, "model": model, "options": o})
    return cases


def predicted(case: dict[str, Any]) -> Any:
    """The peak that llmcalc states, or why it states none."""
    from estimator.commands.memory.plan import plan, simulate
    from estimator.commands.memory.question import Memory
    from estimator.config import Config
    from estimator.errors import InputError
    from estimator.models import Model
    from estimator.questions import ask

    model = Model(case["model"], "file", Config((MODELS | LATER)[case["model"]]))
    try:
        return int(simulate(plan(ask(Memory, model, case["options"] | {"gpu": "h200"}))).worst.peak)
    except InputError as error:
        return str(error)


def adapted(model: Any, o: dict[str, Any]) -> Any:
    """The model with the adapter of the options."""
    import peft

    given = dict(o["args"])
    cast = given.pop("autocast_adapter_dtype", True)
    kind = peft.PEFT_TYPE_TO_CONFIG_MAPPING[getattr(peft.PeftType, o["method"].upper())]
    if o["method"] == "xlora":
        model, made = with_experts(model, o, given.pop("adapters"))
        config = kind(task_type="CAUSAL_LM", hidden_size=model.config.hidden_size, adapters=made, **given)
        return peft.get_peft_model(model, config, autocast_adapter_dtype=cast)
    if "rank" in o:
        given["r"] = int(o["rank"])
    if "targets" in o:
        given["target_modules"] = o["targets"].split(",")
    return peft.get_peft_model(model, kind(task_type="CAUSAL_LM", **given), autocast_adapter_dtype=cast)


def with_experts(model: Any, o: dict[str, Any], many: int) -> tuple[Any, dict[str, str]]:
    """The model, which is to cache nothing, and the LoRAs that X-LoRA loads."""
    import peft

    model.config.use_cache = False
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=int(o["rank"]), target_modules=o["targets"].split(","))
    lora, at = peft.get_peft_model(model, config), tempfile.mkdtemp()
    lora.save_pretrained(at)
    return lora.unload(), {str(i): at for i in range(many)}


def step_of_a_loop(model: Any, o: dict[str, Any], ids: Any) -> int:
    """The peak of the third step of a loop of one's own."""
    import torch

    if o.get("checkpointing") == "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    more = {"task_ids": torch.zeros(len(ids), dtype=torch.long, device=ids.device)} if o["method"] in WITH_TASKS else {}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    for _ in range(3):
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16, enabled=o["autocast"] == "bf16"):
            loss = model(input_ids=ids, labels=ids, **more).loss
        loss.backward()
        del loss
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return int(torch.cuda.max_memory_allocated())


def step_of_the_trainer(model: Any, o: dict[str, Any], ids: Any) -> int:
    """The peak of the third step of transformers.Trainer."""
    import torch
    import transformers

    peaks = []

    class Meter(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.cuda.reset_peak_memory_stats()

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            peaks.append(torch.cuda.max_memory_allocated())

    rows = [{"input_ids": x, "labels": x, "attention_mask": torch.ones_like(x)} for x in ids.cpu()] * 4
    args = transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=len(ids), max_steps=3, bf16=o["autocast"] == "bf16",
        optim="adamw_torch_fused", gradient_checkpointing=o.get("checkpointing") == "full",
        gradient_checkpointing_kwargs={"use_reentrant": False}, report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    collate = transformers.default_data_collator
    transformers.Trainer(model=model, args=args, train_dataset=rows, data_collator=collate, callbacks=[Meter()]).train()
    return int(peaks[-1])


def one(case: dict[str, Any]) -> dict[str, Any]:
    """The case with its measured peak."""
    import peft
    import peft.tuners.boft.layer as boft
    import torch
    import transformers
    from measure_memory import build

    boft.get_fbd_cuda = lambda: None
    torch.manual_seed(0)
    o, config = case["options"], (MODELS | LATER)[case["model"]]
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[o["dtype"]]
    model = build(config, dtype, "sdpa", False if o.get("quantization") else None)
    ids = torch.randint(0, config["vocab_size"], (int(o["batch_size"]), int(o["seq_len"])), device="cuda")
    model = adapted(model, o)
    gc.collect()
    torch.cuda.empty_cache()
    run = step_of_a_loop if o["recipe"] == "torch" else step_of_the_trainer
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
                "device": torch.cuda.get_device_name()}  # fmt: skip
    return {**case, "measured": run(model, o, ids), "versions": versions}


def alone(case: dict[str, Any]) -> dict[str, Any]:
    """One case in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / "case.json"
        at.write_text(json.dumps(case))
        done = subprocess.run([sys.executable, __file__, "one", str(at)], capture_output=True, text=True, check=False)
        if done.returncode:
            return {**case, "error": done.stderr.strip().splitlines()[-1][:300] if done.stderr else "died"}
        found: dict[str, Any] = json.loads(at.read_text())
        return found


def main() -> None:
    verb, path = sys.argv[1], Path(sys.argv[2])
    if verb == "draw":
        seed = int(sys.argv[3]) if len(sys.argv) > 3 else SEED
        path.write_text(json.dumps([c | {"before": predicted(c)} for c in draw(seed)], indent=1))
    elif verb == "one":
        path.write_text(json.dumps(one(json.loads(path.read_text()))))
    elif verb == "measure":
        cases, out = json.loads(path.read_text()), []
        with ThreadPoolExecutor(int(sys.argv[4]) if len(sys.argv) > 4 else 1) as pool:
            for done in pool.map(alone, cases):
                out.append(done)
                print(done["id"], done.get("measured", done.get("error")), flush=True)
                Path(sys.argv[3]).write_text(json.dumps(out))
    else:
        cases = [c for c in json.loads(path.read_text()) if "measured" in c and isinstance(c["before"], int)]
        kept = [{k: c[k] for k in ("id", "model", "options", "before", "measured")} for c in cases]
        record = Path(__file__).parents[1] / "tests/accuracy/peft_steps.json.gz"
        there = json.loads(gzip.decompress(record.read_bytes()))["cases"] if record.exists() else []
        kept = [*(c for c in there if c["id"] not in {k["id"] for k in kept}), *kept]
        data = {"meta": cases[0]["versions"], "configs": MODELS | LATER, "cases": kept}
        with gzip.GzipFile(record, "wb", mtime=0) as f:
            f.write(json.dumps(data, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
