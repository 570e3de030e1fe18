"""Record what one adapted linear layer of peft allocates, forward and backward, for every method.

    pip install torch transformers peft
    python benchmarks/record_adapters.py tests/accuracy/peft_layers.json.gz    # needs a CUDA card; minutes

Each case is a method of peft on one matrix of a small Llama, whose adapter is run once to warm up and once recorded
(torch.cuda.memory._record_memory_history): the level of memory that the forward pass reaches and leaves, and the
backward pass reaches and leaves, in bytes that were asked for, over what stood before. Weights of the adapter are moved
off their initial values. BOFT's CUDA extension is left out, as where there is no compiler.
"""

from __future__ import annotations

import gc
import gzip
import json
import sys
import warnings
from typing import Any

HIDDEN, INNER, BATCH, TOKENS = 512, 768, 2, 192
# (dtype of the model, autocast_adapter_dtype, bf16 autocast): all matrices in the first, down_proj in the others
FORMATS = [("bf16", True, False), ("bf16", False, False), ("fp32", True, False), ("fp32", True, True)]
MATRICES = ("down_proj", "up_proj", "q_proj")
WITH_TASK = ("LoraConfig", "AdaLoraConfig", "IA3Config", "OFTConfig")
# name -> (config class, its fields); a name that ends in -bias: the matrices have biases
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "oft": ("OFTConfig", {"oft_block_size": 32}),
    "oft-coft": ("OFTConfig", {"oft_block_size": 32, "coft": True}),
    "oft-share": ("OFTConfig", {"oft_block_size": 32, "block_share": True}),
    "oft-exact": ("OFTConfig", {"oft_block_size": 32, "use_cayley_neumann": False}),
    "oft-terms3": ("OFTConfig", {"oft_block_size": 32, "num_cayley_neumann_terms": 3}),
    "oft-drop": ("OFTConfig", {"oft_block_size": 32, "module_dropout": 0.1}),
    "boft": ("BOFTConfig", {"boft_block_size": 4}),
    "boft-drop": ("BOFTConfig", {"boft_block_size": 4, "boft_dropout": 0.1}),
    "boft8": ("BOFTConfig", {"boft_block_size": 8, "boft_n_butterfly_factor": 2}),
    "hra": ("HRAConfig", {"r": 8}),
    "hra-gs": ("HRAConfig", {"r": 4, "apply_GS": True}),
    "adalora": ("AdaLoraConfig", {"init_r": 12, "target_r": 8, "total_step": 1000}),
    "adalora-drop": ("AdaLoraConfig", {"init_r": 12, "target_r": 8, "total_step": 1000, "lora_dropout": 0.1}),
    "vera": ("VeraConfig", {"r": 128}),
    "vera-drop": ("VeraConfig", {"r": 128, "vera_dropout": 0.1}),
    "pvera": ("PveraConfig", {"r": 128}),
    "loha": ("LoHaConfig", {"r": 8}),
    "loha-drop": ("LoHaConfig", {"r": 8, "rank_dropout": 0.1}),
    "lokr": ("LoKrConfig", {"r": 4}),
    "lokr-both": ("LoKrConfig", {"r": 4, "decompose_both": True, "decompose_factor": 16}),
    "lokr-full": ("LoKrConfig", {"r": 64}),
    "lokr-drop": ("LoKrConfig", {"r": 4, "rank_dropout": 0.1}),
    "miss": ("MissConfig", {"r": 64}),
    "miss-pad": ("MissConfig", {"r": 60}),
    "miss-mini": ("MissConfig", {"r": 64, "mini_r": 32, "init_weights": "mini"}),
    "miss-bat": ("MissConfig", {"r": 64, "init_weights": "bat"}),
    "miss-drop": ("MissConfig", {"r": 64, "miss_dropout": 0.1}),
    "osf": ("OSFConfig", {}),
    "osf-q": ("OSFConfig", {"effective_rank": 400}),
    "randlora": ("RandLoraConfig", {"r": 32}),
    "randlora-drop": ("RandLoraConfig", {"r": 32, "randlora_dropout": 0.1}),
    "hira": ("HiraConfig", {"r": 32}),
    "hira-drop": ("HiraConfig", {"r": 32, "hira_dropout": 0.1}),
    "delora": ("DeloraConfig", {"r": 32}),
    "delora-drop": ("DeloraConfig", {"r": 32, "module_dropout": 0.1}),
    "road1": ("RoadConfig", {}),
    "road2": ("RoadConfig", {"variant": "road_2"}),
    "road4": ("RoadConfig", {"variant": "road_4"}),
    "c3a": ("C3AConfig", {"block_size": 128}),
    "fourierft": ("FourierFTConfig", {"n_frequency": 1000}),
    "waveft": ("WaveFTConfig", {"n_frequency": 2592}),
    "waveft-plain": ("WaveFTConfig", {"n_frequency": 2592, "use_idwt": False}),
    "waveft-sym5": ("WaveFTConfig", {"n_frequency": 2592, "wavelet_family": "sym5"}),
    "shira": ("ShiraConfig", {"r": 32}),
    "gralora": ("GraloraConfig", {"r": 32}),
    "gralora-hybrid": ("GraloraConfig", {"r": 32, "hybrid_r": 16}),
    "gralora-drop": ("GraloraConfig", {"r": 32, "gralora_dropout": 0.1}),
    "vblora": ("VBLoRAConfig", {"r": 4, "num_vectors": 256, "vector_length": 256}),
    "vblora-drop": ("VBLoRAConfig", {"r": 4, "num_vectors": 256, "vector_length": 256, "vblora_dropout": 0.1}),
    "beft": ("BeftConfig", {}),
    "deft": ("DeftConfig", {"r": 16}),
    "deft-qr": ("DeftConfig", {"r": 16, "decomposition_method": "qr"}),
    "deft-para": ("DeftConfig", {"r": 16, "para": True}),
    "glora": ("GloraConfig", {"r": 16}),
    "lily": ("LilyConfig", {"r": 32}),
    "peanut": ("PeanutConfig", {"r": 32}),
    "peanut2": ("PeanutConfig", {"r": 32, "depth": 2}),
    "psoft": ("PsoftConfig", {"r": 32}),
    "psoft-cn": ("PsoftConfig", {"r": 32, "use_cayley_neumann": True}),
    "tinylora": ("TinyLoraConfig", {}),
    "unilora": ("UniLoraConfig", {"r": 4}),
    "frod": ("FrodConfig", {}),
    "adamss": ("AdamssConfig", {"r": 64}),
    "ia3": ("IA3Config", {"feedforward_modules": []}),
    "supertuning": ("SupertuningConfig", {}), "supertuning-lora": ("SupertuningConfig", {"r": 16}),
    "hra-bias": ("HRAConfig", {"r": 8}),
    "boft-bias": ("BOFTConfig", {"boft_block_size": 4}),
    "miss-bat-bias": ("MissConfig", {"r": 64, "init_weights": "bat"}),
    "oft-bias": ("OFTConfig", {"oft_block_size": 32}),
    "glora-bias": ("GloraConfig", {"r": 16}),
    "beft-bias": ("BeftConfig", {}),
}


def level(fn: Any) -> list[int]:
    """[bytes at most, bytes at the end] of what ``fn`` allocates."""
    import torch

    memory = torch.cuda.memory
    memory._record_memory_history(enabled="all", context="all", stacks="python", max_entries=10**6)
    fn()
    torch.cuda.synchronize()
    trace = memory._snapshot()["device_traces"][0]
    memory._record_memory_history(enabled=None)
    live = most = 0
    for event in trace:
        live += {"alloc": event["size"], "free_requested": -event["size"]}.get(event["action"], 0)
        most = max(most, live)
    return [most, live]


def record(name: str, matrix: str, dtype: str, cast: bool, autocast: bool) -> list[int]:
    """Levels of one layer: forward most and end, backward most and end over the end of the forward pass."""
    import peft
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    cls, given = CASES[name]
    bias, own = name.endswith("-bias"), {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=1,
        vocab_size=500, mlp_bias=bias, attention_bias=bias,
    )  # fmt: skip
    asked = {**given, "target_modules": [matrix], **({"task_type": "CAUSAL_LM"} if cls in WITH_TASK else {})}
    model = LlamaForCausalLM(config).to("cuda", own)
    model = peft.get_peft_model(model, getattr(peft, cls)(**asked), autocast_adapter_dtype=cast).train()
    for p in model.parameters():
        if p.requires_grad and p.numel() > 1:
            p.data.add_(torch.randn_like(p) * 1e-3)
    layer = next(x for n, x in model.named_modules() if n.endswith("." + matrix))
    width = INNER if matrix == "down_proj" else HIDDEN
    x = torch.randn(BATCH, TOKENS, width, device="cuda", dtype=own, requires_grad=True)
    held: list[Any] = []

    def forward() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            held.append(layer(x))

    forward()
    gradient = torch.randn_like(held[0])
    held.pop().backward(gradient)
    for p in (x, *model.parameters()):
        p.grad = None
    gc.collect()
    gc.disable()
    found = [*level(forward), *level(lambda: held.pop().backward(gradient))]
    gc.enable()
    return found


def main() -> None:
    import peft
    import peft.tuners.boft.layer as boft
    import torch
    import transformers

    warnings.filterwarnings("ignore")
    boft.get_fbd_cuda = lambda: None
    meta = {
        "about": "levels of one adapted layer: bytes at most and at the end of the forward pass, and of the backward",
        "torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
        "device": torch.cuda.get_device_name(),
    }  # fmt: skip
    levels = {}
    for i, (dtype, cast, autocast) in enumerate(FORMATS):
        for name in CASES:
            for matrix in MATRICES if i == 0 else MATRICES[:1]:
                levels[f"{name}|{matrix}|{dtype}|{cast}|{autocast}"] = record(name, matrix, dtype, cast, autocast)
    out = {"meta": meta, "cases": CASES, "levels": levels}
    with gzip.GzipFile(sys.argv[1], "wb", mtime=0) as f:
        f.write(json.dumps(out, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
