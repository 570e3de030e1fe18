"""Measure what the host of an eager program takes by kind: launches, layers, a pass; and fit the preset's constants.

    python benchmarks/launches.py measure OUT.json     on the machine: torch, transformers and one GPU
    python benchmarks/launches.py fit [tests/accuracy/launch_times.json]     needs scipy

measure: narrow models of many classes, a shallow and a deep one each, whose difference is a layer's Python and launches
(the GPU waits for the host); with the operations that torch dispatches; then prefills of presets as device events time
them. fit: least squares of the logarithm, outliers weigh less (soft L1 from 5%).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

CASES = Path(__file__).resolve().parent.parent / "tests" / "accuracy" / "launch_times.json"
SHALLOW, DEEP, TOKENS, VOCAB = 2, 10, 128, 1024
COMMON = {"hidden_size": 256, "num_attention_heads": 4, "vocab_size": VOCAB, "max_position_embeddings": 1024}
GROUPED = COMMON | {"num_key_value_heads": 2, "intermediate_size": 512}
OLD = {"n_head": 4, "vocab_size": VOCAB, "n_positions": 1024}
CLASSES: dict[str, dict[str, Any]] = {
    "gpt2": OLD | {"n_embd": 256}, "gptj": OLD | {"n_embd": 256, "rotary_dim": 32},
    "bloom": {"hidden_size": 256, "n_head": 4, "vocab_size": VOCAB},
    "opt": COMMON | {"ffn_dim": 512, "word_embed_proj_dim": 256},
    "gpt_neox": COMMON | {"intermediate_size": 512}, "phi": GROUPED | {"num_key_value_heads": 4},
    "phi3": GROUPED | {"pad_token_id": 0, "original_max_position_embeddings": 1024},
    "falcon": COMMON | {"new_decoder_architecture": False, "multi_query": True},
    "mixtral": GROUPED | {"num_local_experts": 4},
    "olmoe": GROUPED | {"num_experts": 4, "num_experts_per_tok": 2},
} | dict.fromkeys(
    ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma3_text", "olmo2", "cohere", "granite", "stablelm",
     "starcoder2"), GROUPED,
)  # fmt: skip
REAL = ("gpt2-xl", "gpt2-medium", "llama-3.2-1b", "qwen2.5-0.5b", "pythia-1.4b", "opt-1.3b", "tinyllama-1.1b",
        "llama-2-7b")  # fmt: skip
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_grouped_mm", "linear")
MADE = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")  # neither kernels nor views


def counter() -> Any:
    """A dispatch mode that counts operations: products, fused attention, views, other kernels."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.kinds: Counter[str] = Counter()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func._schema.name.split("::")[1]
            views = any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)
            kind = "view" if views or name in ("detach", "_unsafe_view") else "kernel"
            kind = "product" if name in PRODUCTS else "attention" if "scaled_dot" in name else kind
            self.kinds[kind] += name not in MADE
            return func(*args, **(kwargs or {}))

    return Count()


def build(model_type: str, fields: dict[str, Any], layers: int | None = None) -> Any:
    """A model with random weights in bf16, with SDPA where its class has it."""
    import torch
    import transformers

    depth = {} if layers is None else {"n_layer" if "n_head" in fields else "num_hidden_layers": layers}
    config = transformers.AutoConfig.for_model(model_type, **fields, **depth)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            make = transformers.AutoModelForCausalLM.from_config
            try:
                return make(config, attn_implementation="sdpa").eval()
            except ValueError:
                return make(config, attn_implementation="eager").eval()
    finally:
        torch.set_default_dtype(torch.float32)


def prefill_of(model: Any, batch: int, tokens: int) -> Callable[[], None]:
    import torch

    ids = torch.randint(0, VOCAB - 24, (batch, tokens), device="cuda")

    def run() -> None:
        with torch.no_grad():
            model(input_ids=ids, use_cache=True, logits_to_keep=1)

    return run


def host_seconds(run: Callable[[], None], times: int = 40) -> float:
    """The fastest of some runs, from an idle GPU to the host's return."""
    import torch

    found = []
    for _ in range(times + 5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found[5:])


def device_seconds(run: Callable[[], None], times: int = 12) -> float:
    """The median between device events, the host running ahead where it can."""
    import torch

    pairs = []
    for _ in range(times + 2):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        run()
        b.record()
        pairs.append((a, b))
    torch.cuda.synchronize()
    return median(a.elapsed_time(b) for a, b in pairs[2:]) / 1e3


def measure(out: str) -> None:
    """Write the file that ``fit`` reads, with one run."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    from estimator.models import load_model

    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "classes": {}, "real": {}}
    for name, fields in CLASSES.items():
        seconds, kinds = [], []
        for layers in (SHALLOW, DEEP):
            run = prefill_of(build(name, fields, layers), 1, TOKENS)
            seconds.append(host_seconds(run))
            with counter() as seen:
                run()
            kinds.append(seen.kinds)
        more = DEEP - SHALLOW
        found["classes"][name] = {
            "forward_us": 1e6 * (seconds[1] - seconds[0]) / more,
            "forward": {k: (n - kinds[0][k]) / more for k, n in kinds[1].items()},
        }
    for name in REAL:
        config = load_model(name).config
        raw = dict(config.raw) if config is not None else {}
        model = build(raw.pop("model_type"), raw)
        found["real"][name] = {
            f"1 x {s}": {"prefill_s": device_seconds(prefill_of(model, 1, s))} for s in (TOKENS, 4 * TOKENS)
        }
        del model
        torch.cuda.empty_cache()
    Path(out).write_text(json.dumps({"runs": {"quiet": found}}))


def rows(run: dict[str, Any], gpu: str = "h100-sxm") -> list[tuple[str, tuple[float, float, float], float]]:
    """(what, (launches, layers, passes), microseconds) of every layer and prefill of a run."""
    from estimator.models import load_model
    from estimator.serving import setup
    from estimator.serving.step import prefill
    from estimator.trace import value_of

    out: list[tuple[str, tuple[float, float, float], float]] = []
    for name, c in run["classes"].items():
        out.append((name, (sum(c["forward"].get(k, 0) for k in ("product", "attention", "kernel")), 1, 0),
                    c["forward_us"]))  # fmt: skip
    for name, sizes in run["real"].items():
        serve, _ = setup.setup(load_model(name), gpu, 1, "bf16", None, "none", "transformers", True)
        for size, c in sizes.items():
            b, s = (int(x) for x in size.split(" x "))
            work = prefill(serve, b, s)
            counts = float(value_of(work.launches)), float(value_of(serve.arch.num_layers)), 1.0
            out.append((f"{name} {size}", counts, 1e6 * c["prefill_s"]))
    return out


def fit(file: str) -> None:
    """Print launch_us, launch_layer_us and launch_pass_us with their standard errors, and every error."""
    import numpy as np
    from scipy.optimize import least_squares

    runs = json.loads(Path(file).read_text())["runs"]
    made = rows(runs["quiet"])
    counts, want = np.array([c for _, c, _ in made]), np.array([us for *_, us in made])
    r = least_squares(
        lambda x: np.log(counts @ np.exp(x) / want), np.log([12, 150, 800]), loss="soft_l1", f_scale=0.05
    )
    spread = np.sqrt(np.diag(np.linalg.pinv(r.jac.T @ r.jac)) * np.sum(r.fun**2) / (len(want) - 3))
    for key, x, e in zip(("launch_us", "launch_layer_us", "launch_pass_us"), np.exp(r.x), spread, strict=True):
        print(f"{key} = {x:.4g}  # +- {e:.0%}")
    errors = counts @ np.exp(r.x) / want - 1
    for (what, *_), e in zip(made, errors, strict=True):
        print(f"{e:+8.1%}  {what}")
    print(f"median error {median(np.abs(errors)):.1%}")
    if "busy" in runs:
        pairs = [(a["prefill_s"], runs["quiet"]["real"][m][s]["prefill_s"])
                 for m, sizes in runs["busy"]["real"].items() for s, a in sizes.items()]  # fmt: skip
        slower = sorted(a / b for a, b in pairs)
        print(f"the busy host took {slower[0]:.2f} to {slower[-1]:.2f} times as long, median {median(slower):.2f}")


if __name__ == "__main__":
    {"measure": measure, "fit": fit}[sys.argv[1]](sys.argv[2] if len(sys.argv) > 2 else str(CASES))
