"""Count what a layer's operations read and write, as torch dispatches them for transformers' classes on no device.

    python benchmarks/record_kernels.py OUT.json.gz [preset ...]     needs torch and transformers

One preset of each family, with eight and with sixteen layers, 2 x 128 tokens in bf16: the difference is eight layers.
A prefill is counted as a model that serves runs it, the other passes in training mode, all without dropout.
Of the operations that are neither views nor products nor attention: kernels, bytes read and written by those over
contiguous tensors, elements written by those over broadcast or permuted ones, elements that pass LayerNorm's. A slice's
gradient is two kernels (zeros and a copy), and so is LayerNorm's (the input's and the weights').
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from estimator import presets
from estimator.models import load_model

SHALLOW, DEEP, BATCH, TOKENS = 8, 16, 2, 128
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers", "encoder_layers",
          "decoder_layers")  # fmt: skip
NESTED = ("text_config",)
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_grouped_mm", "convolution", "convolution_backward", "linear")
FILLED = ("uniform_", "exponential_", "zero_", "fill_")  # in place, whatever was there
MADE = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")  # neither kernels nor views
ZEROS = ("new_zeros", "zeros_like", "new_full", "full_like", "rand_like")
VIEWS = ("detach", "_unsafe_view", "lift_fresh", "alias")
INDEXED = ("cat", "stack", "index", "index_select", "gather", "scatter", "index_put", "constant_pad_nd", "roll")
REDUCED = ("mean", "sum", "max", "amax", "topk", "sort", "argsort")
SPARSE = ("embedding", "embedding_dense_backward", "nll_loss_forward", "nll_loss_backward", "clone")
STORED = ("architectures", "transformers_version", "torch_dtype", "dtype", "quantization_config", "_name_or_path")


def nbytes(*tensors: torch.Tensor) -> int:
    return sum(x.numel() * x.element_size() for x in tensors if x.numel() > 1)


class Kernels(TorchDispatchMode):
    """launches, bytes, strided and welford, as the module's docstring says."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = [0, 0, 0, 0]

    def add(self, launches: int, moved: int = 0, strided: int = 0, welford: int = 0) -> None:
        for i, n in enumerate((launches, moved, strided, welford)):
            self.counts[i] += n

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if name == "_local_scalar_dense":  # "is every token attended to?", asked of no device: yes
            return True if args[0].is_meta else func(*args)
        out = func(*args, **(kwargs or {}))
        if name == "softplus_backward":  # composed of others on no device; a kernel lays it out as its first input
            out = torch.empty_like(args[0])
        views = any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)
        if not views and name not in (*VIEWS, *MADE, *PRODUCTS) and "scaled_dot" not in name:
            ins, outs = ([x for x in tree_flatten(y)[0] if isinstance(x, torch.Tensor)] for y in ((args, kwargs), out))
            self.count(name, ins, outs, args)
        return out

    def count(self, name: str, ins: list[Any], outs: list[Any], args: Any) -> None:
        if name in ("copy_", *FILLED):  # what it was is not read
            ins = ins[1:]
        whole = [x for x in ins if x.numel()]
        if outs and not any(x.numel() and x.device.type != "cpu" for x in outs):
            return  # nothing to launch a kernel for
        if name in ("slice_backward", "select_backward"):
            self.add(2, nbytes(outs[0]), ins[0].numel())
        elif name == "native_layer_norm_backward":
            wants = args[-1]
            self.add(1 + (any(wants[1:]) and wants[0]), (3 * wants[0] + 2 * any(wants[1:])) * nbytes(ins[0]))
        elif name == "native_layer_norm":
            self.add(1, welford=outs[0].numel())
        elif name in ZEROS:
            self.add(1, nbytes(*outs))
        elif name == "cat" and len(whole) == 1 and whole[0].is_contiguous():  # the first keys of a cache
            self.add(1, 2 * nbytes(whole[0]))
        elif strided(name, ins, outs):
            self.add(1, strided=max(outs[0].numel(), ins[0].numel() if name in REDUCED else 0))
        else:
            self.add(1, nbytes(*ins, *outs))


def strided(name: str, ins: list[Any], outs: list[Any]) -> bool:
    """Whether a kernel is bound by its indexing: its tensors are broadcast, picked, or do not lie as they are seen."""
    like = [x for x in ins if x.numel() > 1]
    if name in INDEXED:
        return True
    if name in REDUCED:  # they go along whichever axis lies innermost (aten/native/cuda/Reduce.cuh)
        return not all(dense(x) for x in like)
    if name not in SPARSE and len({x.dtype for x in like}) > 1:  # aten/native/cuda/Loops.cuh does not vectorise these
        return True
    if name not in SPARSE and any(x.dim() > 0 and x.numel() != outs[0].numel() for x in like):
        return True
    return any(not x.is_contiguous() for x in (*like, *outs))


def dense(x: torch.Tensor) -> bool:
    """Whether its numbers lie side by side, in whatever order."""
    reached = 1
    for stride, size in sorted((stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1):
        if stride != reached:
            return False
        reached *= size
    return True


class Attention(torch.autograd.Function):
    """Fused attention as CUDA's kernels lay it out: flash attention's output as the queries are, and gradients as what
    they are of; the memory-efficient kernel's by tokens (native/transformers/cuda/attention{,_backward}.cu)."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, masked: bool) -> Any:
        ctx.like, ctx.flash = (q, k, v), not masked and v.shape[-1] == q.shape[-1]
        return torch.empty_like(q) if ctx.flash else by_tokens(q, v.shape[-1])

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return (*(torch.empty_like(x) if ctx.flash else by_tokens(x, x.shape[-1]) for x in ctx.like), None)


def by_tokens(x: torch.Tensor, width: int) -> torch.Tensor:
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], width).transpose(1, 2)


def shortened(raw: dict[str, Any], layers: int) -> dict[str, Any]:
    """The config with so many layers, of its text model where that has a config of its own."""
    raw = raw | {f: layers for f in DEPTHS if f in raw}
    if isinstance(raw.get("layer_types"), list):
        raw["layer_types"] = raw["layer_types"][:layers]
    if isinstance(raw.get("attention_types"), list):  # GPT-Neo
        raw["attention_types"] = [[kinds, layers // len(kinds)] for kinds, _ in raw["attention_types"]]
        raw.pop("attention_layers", None)
    return raw | {f: shortened(raw[f], layers) for f in NESTED if isinstance(raw.get(f), dict)}


def attend(q: Any, k: Any, v: Any, attn_mask: Any = None, scale: float | None = None, **_: Any) -> Any:
    """SDPA: a fused kernel, or where a bias does not lie row by row what PyTorch falls back to, operation by operation
    (sdp_utils.cpp, check_last_dim_stride_equals_1_dense)."""
    if attn_mask is not None and attn_mask.stride(-1) != 1:
        return torch.ops.aten._scaled_dot_product_attention_math.default(q, k, v, attn_mask, scale=scale)[0]
    return Attention.apply(q, k, v, attn_mask is not None)


def build(raw: dict[str, Any], layers: int) -> Any:
    """A model of ``layers`` layers on the meta device, with SDPA where its class has it, without dropout."""
    raw = shortened({k: v for k, v in raw.items() if k not in STORED}, layers)
    config = transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    classes = (transformers.AutoModelForSeq2SeqLM,) if config.is_encoder_decoder else (
        transformers.AutoModelForCausalLM, transformers.AutoModelForMaskedLM)  # fmt: skip
    make = next(c for c in classes if type(config) in c._model_mapping)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            try:
                return make.from_config(config, attn_implementation="sdpa").eval()
            except ValueError:
                return make.from_config(config, attn_implementation="eager").eval()
    finally:
        torch.set_default_dtype(torch.float32)


def counted(model: Any, train: bool) -> tuple[list[int], list[int]]:
    """Of a forward pass (with a cache where it does not train), and of the backward pass after it. As a Trainer does,
    the config is told of the cache, not the call: a decoder beside an encoder has a copy that still says True."""
    for config in (model.config, *(getattr(model.config, f, None) for f in NESTED)):
        if config is not None:
            config.use_cache = not train
    ids = torch.zeros(BATCH, TOKENS, dtype=torch.long, device="meta")
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    model.train(train)
    ahead, back = Kernels(), Kernels()
    with ahead, torch.set_grad_enabled(train):
        out = model(input_ids=ids, **more)
    if train:
        g = torch.empty_like(out.logits)
        with back:
            out.logits.backward(g)
    return ahead.counts, back.counts


def recorded(raw: dict[str, Any]) -> dict[str, list[int]]:
    rows = []
    for layers in (SHALLOW, DEEP):
        model = build(raw, layers)
        rows.append((counted(model, False)[0], *counted(model, True)))
    names = ("prefill", "forward", "backward")
    pairs = zip(names, *rows, strict=True)
    return {n: [y - x for x, y in zip(less, more, strict=True)] for n, less, more in pairs}


def main() -> None:
    torch.nn.functional.scaled_dot_product_attention = attend
    transformers.masking_utils.find_packed_sequence_indices = lambda position_ids: None
    made: dict[str, Any] = {}
    families = set()
    for name in sys.argv[2:] or presets.ids("models"):
        model = load_model(name)
        if model.config is None or model.architecture.model_type in families:
            continue
        try:
            made[name] = recorded(dict(model.config.raw))
            families.add(model.architecture.model_type)
            print(name, made[name], flush=True)
        except Exception as e:  # a class that transformers does not have, or that asks a tensor for its value
            print(f"{name}: {type(e).__name__}: {str(e)[:100]}", flush=True)
    about = {"torch": torch.__version__, "transformers": transformers.__version__, "layers": DEEP - SHALLOW,
             "batch": BATCH, "tokens": TOKENS, "made_by": "benchmarks/record_kernels.py"}  # fmt: skip
    with gzip.GzipFile(Path(sys.argv[1]), "wb", mtime=0) as file:
        file.write(json.dumps({"about": about, "layers": made}, indent=1).encode())


if __name__ == "__main__":
    main()
