"""Trace what steps of transformers' classes allocate, on tensors without data: no GPU is needed.

    python benchmarks/trace_steps.py OUT.json.gz CASES.json.gz [model or id ...]      needs torch, transformers and peft

CASES has the form of tests/accuracy/traced_steps.json.gz (bytes above what stands before a step of SGD; ``configs`` by
``model``) or of traced_mixers.json.gz (each case its ``config``; peaks of the second of two steps of AdamW, without
cuBLAS's workspaces): either file renews itself. Named models or ids are traced alone; the others are kept as they are.

Every storage counts from the operation that makes it until its last tensor goes, rounded as the allocator rounds. The
tensors say that they are the processor's, whose autograd needs no device; attention, autocast and the statistics of
norms are CUDA's, and so is what the backward kernel of flash attention holds (mha_bwd.cpp). Gradients that autograd
accumulates are never added to in place, as a GPU's are, and what other kernels hold inside is not seen.
"""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import measure_memory
import torch
import transformers
import transformers.masking_utils
import transformers.modeling_attn_mask_utils
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from estimator.ops import round_up
from estimator.stack.attention import FLASH_ROWS, FLASH_WIDTH
from estimator.stack.blocks import block_bytes

WIDEST = 256  # of a head that flash attention takes
LATER = 8  # tokens after the prompt


class Storages(TorchDispatchMode):
    """``live``: bytes of every storage that still has a tensor; ``most``: the highest level since :meth:`begin`."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.live = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.drop()
        if func is torch.ops.aten._local_scalar_dense.default:  # "is every token attended to?": yes
            return True
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.native_layer_norm.default:  # CUDA's kernel keeps both in 32 bits
            out = (out[0], out[1].float(), out[2].float())
        self.add(out)
        if func is torch.ops.aten._scaled_dot_product_flash_attention_backward.default:
            self.most = max(self.most, self.live + inside_flash(*args[1:3]))
        return out

    def add(self, made: Any) -> None:
        for x in tree_flatten(made)[0]:
            if not isinstance(x, torch.Tensor) or not isinstance(x, FakeTensor):
                continue
            storage = x.untyped_storage()
            if storage._cdata not in self.held:
                size = block_bytes(storage.nbytes())
                self.held[storage._cdata] = StorageWeakRef(storage), size
                self.live += size
        self.most = max(self.most, self.live)

    def drop(self) -> None:
        for key in [k for k, (ref, _) in self.held.items() if ref.expired()]:
            self.live -= self.held.pop(key)[1]

    def spare(self, given: Iterable[Any]) -> None:
        """Count these no longer: they lie on the host."""
        for x in given:
            ref, size = self.held[x.untyped_storage()._cdata]
            self.held[x.untyped_storage()._cdata] = ref, 0
            self.live -= size

    def begin(self) -> int:
        self.drop()
        self.most = self.live
        return self.live


def inside_flash(q: Any, k: Any) -> int:
    """Bytes that flash attention's backward kernel holds: sums of rows, the gradient of q in 32 bits, and where queries
    share keys both gradients by query head."""
    rows = q.shape[0] * q.shape[1] * round_up(q.shape[2], FLASH_ROWS)
    held = block_bytes(4 * rows) + block_bytes(4 * rows * round_up(q.shape[3], FLASH_WIDTH))
    per_head = q.shape[1] * k.shape[0] * k.shape[2] * k.shape[3] * k.element_size()
    return int(held + (2 * block_bytes(per_head) if q.shape[1] != k.shape[1] else 0))


def attend(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
           scale: float | None = None, enable_gqa: bool = False) -> Any:  # fmt: skip
    """SDPA as CUDA chooses: flash attention, the memory-efficient kernel, or operation by operation."""
    if torch.is_autocast_enabled("cpu"):
        given = (x if x is None or x.dtype == torch.bool else x.to(torch.bfloat16) for x in (q, k, v, attn_mask))
        with torch.autocast("cpu", enabled=False):
            return attend(*given, dropout_p, is_causal, scale, enable_gqa)
    aten, half = torch.ops.aten, q.dtype in (torch.float16, torch.bfloat16)
    grouped = enable_gqa and k.shape[1] != q.shape[1]
    if attn_mask is None and half and max(q.shape[-1], v.shape[-1]) <= WIDEST and v.shape[-1] == q.shape[-1]:
        width = q.shape[-1]
        if width % 8:
            q, k, v = (torch.nn.functional.pad(x, (0, 8 - width % 8)) for x in (q, k, v))
        scale = 1 / math.sqrt(width) if scale is None else scale
        return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal, scale=scale)[0][..., :width]
    if k.shape[1] != q.shape[1] or (attn_mask is not None and attn_mask.stride(-1) != 1):
        return aten._scaled_dot_product_attention_math(
            q, k, v, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=grouped
        )[0]
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(~attn_mask, float("-inf"))
        attn_mask = attn_mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    keeps = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return aten._scaled_dot_product_efficient_attention(q, k, v, attn_mask, keeps, 0.0, is_causal, scale=scale)[0]


FP32 = ("exp", "log", "reciprocal", "rsqrt", "softplus", "layer_norm", "native_layer_norm", "nll_loss", "nll_loss_nd",
        "logsumexp", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")  # fmt: skip
SUMS = ("softmax.int", "log_softmax.int", "cumsum", "prod", "prod.dim_int", "sum", "sum.dim_IntList")


def as_on_cuda() -> Any:
    """Autocast's rules for the processor completed with those it has for CUDA (ATen/autocast_mode.h)."""
    library = torch.library.Library("aten", "IMPL", "AutocastCPU")

    def fp32(op: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            def cast(x: Any) -> Any:
                return x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
            with torch.autocast("cpu", enabled=False):
                return op(*(cast(x) for x in args), **{k: cast(x) for k, x in kwargs.items()})
        return run

    def summed(op: Any) -> Any:
        names = [a.name for a in op._schema.arguments]

        def run(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(names, args, strict=False)) | kwargs
            if given.get("dtype") is None and given["self"].dtype in (torch.float16, torch.bfloat16):
                given["dtype"] = torch.float32
            with torch.autocast("cpu", enabled=False):
                return op(**given)
        return run

    def cross_entropy(x: Any, target: Any, weight: Any = None, reduction: int = 1, ignore: int = -100, *_: Any) -> Any:
        return torch.ops.aten.nll_loss_nd(torch.log_softmax(x, -1, x.dtype), target, weight, reduction, ignore)

    library.impl("cross_entropy_loss", cross_entropy)
    for names, rule in ((FP32, fp32), (SUMS, summed)):
        for name in names:
            packet, _, overload = name.partition(".")
            library.impl(name, rule(getattr(getattr(torch.ops.aten, packet), overload or "default")))
    return library


def built(config: dict[str, Any], case: dict[str, Any]) -> Any:
    """The model of a case, adapted and checkpointed as it says; a class without SDPA computes its attention itself."""
    precision = measure_memory.DTYPES[case.get("precision", "bf16")]
    try:
        model = measure_memory.build(config, precision, case.get("attn", "sdpa"), None)
    except ValueError:
        model = measure_memory.build(config, precision, "eager", None)
    model = measure_memory.adapted(model, case | ({"method": "lora"} if "rank" in case else {}))
    model.config.use_cache = case["kind"] != "train"
    if case.get("checkpoint"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train(case["kind"] == "train")


def train(seen: Storages, case: dict[str, Any], config: dict[str, Any], adam: bool) -> dict[str, int]:
    """Levels of a step: the highest of its passes, and what stands before it."""
    model = built(config, case)
    load = seen.begin()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, foreach=True) if adam else torch.optim.SGD(params, foreach=True)
    given = measure_memory.inputs(config, case)
    found: dict[str, int] = {}
    for _ in range(2):
        start = seen.begin()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.get("precision") == "amp"):
            loss = model(**given).loss
        found["forward"] = seen.most
        seen.begin()
        loss.backward()
        found["backward"] = seen.most
        seen.begin()
        del loss
        optimizer.step()
        found["step"] = seen.most
        optimizer.zero_grad(set_to_none=True)
        seen.spare(state["step"] for state in optimizer.state.values() if "step" in state)
    return {"load": load, "start": start, **found}


@torch.no_grad()
def infer(seen: Storages, case: dict[str, Any], config: dict[str, Any]) -> dict[str, int]:
    """Levels of the prefill and of the steps after it."""
    model = built(config, case)
    start = seen.begin()
    ids = measure_memory.inputs(config, case)["input_ids"]
    made = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    found = {"load": start, "start": start, "prefill": seen.most}
    name = "past_key_values" if "past_key_values" in made else "cache_params"
    past, token = made[name], ids[:, -1:]
    del made
    seen.begin()
    for _ in range(case.get("new_tokens", LATER)):
        token = model(input_ids=token, use_cache=True, **{name: past}).logits[:, -1:].argmax(-1)
    return {**found, "decode": seen.most}


def traced(case: dict[str, Any], configs: dict[str, Any]) -> dict[str, Any]:
    """The case with its levels measured anew."""
    config = case["config"] if "config" in case else configs[case["model"]]
    with FakeTensorMode(allow_non_fake_inputs=True), Storages() as seen:
        run = infer if case["kind"] == "infer" else lambda *given: train(*given, "config" in case)
        found = run(seen, case, config)
    if "measured" in case:
        return case | {"measured": {k: found[k] for k in case["measured"]}}
    return case | {k: v if k == "start" else v - found["start"] for k, v in found.items() if k in case}


def main() -> None:
    measure_memory.DEVICE = "cpu"
    rules = as_on_cuda()  # they go with it
    torch.nn.functional.scaled_dot_product_attention = attend
    transformers.masking_utils.is_tracing = transformers.modeling_attn_mask_utils.is_tracing = lambda *_: False
    draw = torch.rand
    torch.rand = lambda *size, **how: 1.0 if size == ([],) else draw(*size, **how)  # no layer is dropped
    torch.nn.Module.to = lambda self, *_, **__: self  # everything is where it belongs
    target, source, *names = sys.argv[1:]
    data = json.loads(gzip.decompress(Path(source).read_bytes()))
    for i, case in enumerate(data["cases"]):
        name = case.get("id", case.get("model"))
        if not names or name in names:
            data["cases"][i] = made = traced(case, data.get("configs", {}))
            before, after = (c.get("measured", c) for c in (case, made))
            moved = {k: f"{after[k] / max(v, 1) - 1:+.3%}" for k, v in before.items() if after[k] != v}
            print(name, case["kind"], case.get("precision", ""), moved or "the same", flush=True)
    data["meta"] |= {"torch": torch.__version__, "transformers": transformers.__version__}
    with gzip.GzipFile(target, "wb", mtime=0) as file:
        file.write(json.dumps(data).encode())
    del rules


if __name__ == "__main__":
    main()
