"""Models of measured steps, as their configs and options say: weights, packed bases, adapters, optimizers of loops.

For measure_blind.py. Weights are random, of the dtype of the options; dropout stays as the config has it. The order in
which tensors are made is part of what is measured: routers send tokens where the seed's weights say, and an allocator
counts the rests of blocks that were split before.
"""

from __future__ import annotations

import importlib
from typing import Any

import measure_memory
import torch
import transformers
from measure_memory import DEVICE
from measure_stacks import DTYPES

LEFT = ("lm_head", "score", "classifier")  # linear layers that are not packed
RATE = 1e-5
SCALE = 0.02  # of random weights
# name -> module, class, its fields; measure_memory.py has the rest
OPTIMIZERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rmsprop": ("torch.optim", "RMSprop", {}), "adagrad": ("torch.optim", "Adagrad", {}),
    "paged-adamw": ("bitsandbytes.optim", "PagedAdamW32bit", {}), "lion-bnb": ("bitsandbytes.optim", "Lion32bit", {}),
    "ademamix": ("bitsandbytes.optim", "AdEMAMix", {}),
    "adafactor-hf": ("transformers.optimization", "Adafactor", {"scale_parameter": False, "relative_step": False}),
    "schedule-free": ("schedulefree", "AdamWScheduleFree", {}),
    "schedule-free-sgd": ("schedulefree", "SGDScheduleFree", {}),
    "ao-adamw8bit": ("torchao.optim", "AdamW8bit", {}), "ao-adamw4bit": ("torchao.optim", "AdamW4bit", {}),
    "grokadamw": ("grokadamw", "GrokAdamW", {}), "stable-adamw": ("optimi", "StableAdamW", {}),
}  # fmt: skip
PROJECTED: dict[str, tuple[str, str, dict[str, Any]]] = {  # the same, of those that project the matrices
    "galore": ("galore_torch", "GaLoreAdamW",
        {"rank": 128, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"}),
    "apollo": ("apollo_torch", "APOLLOAdamW",
        {"rank": 128, "update_proj_gap": 200, "scale": 1.0, "proj_type": "std", "proj": "random",
         "scale_type": "channel"}),
}  # fmt: skip


def dtype_of(o: dict[str, Any]) -> torch.dtype:
    """The dtype of the weights."""
    found: torch.dtype = getattr(torch, DTYPES[o["dtype"]])
    return found


def drawn(config: dict[str, Any], o: dict[str, Any], scores: bool, device: str) -> Any:
    """A model of the config's class on ``device``; ``scores``: the classifier with one label in its stead."""
    fields = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    made = transformers.AutoConfig.for_model(config["model_type"], **fields)
    make = getattr(transformers, config["architectures"][0])._from_config
    if scores:
        made.num_labels, make = 1, transformers.AutoModelForSequenceClassification.from_config
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype_of(o))
    try:
        with torch.device(device):
            try:
                model = make(made, attn_implementation=o.get("attention", "sdpa"))
            except ValueError:  # a class without sdpa
                model = make(made, attn_implementation="eager")
    finally:
        torch.set_default_dtype(before)
    model.config.use_cache = False
    return model


def layer_of(base: Any, dtype: torch.dtype, scheme: str) -> Any:
    """A linear layer of bitsandbytes in the place of ``base``, of random weights, not yet packed."""
    import bitsandbytes as bnb

    sizes, bias = (base.in_features, base.out_features), base.bias is not None
    weight = torch.empty(base.out_features, base.in_features, dtype=dtype, device=DEVICE).normal_(0, SCALE)
    if scheme == "int8":
        made = bnb.nn.Linear8bitLt(*sizes, bias, has_fp16_weights=False, threshold=6.0, device="meta")
        made.weight = bnb.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    else:
        four = {"compress_statistics": scheme == "nf4-dq", "quant_type": "nf4"}
        made = bnb.nn.Linear4bit(*sizes, bias, compute_dtype=dtype, device="meta", **four)
        made.weight = bnb.nn.Params4bit(weight, requires_grad=False, module=made, **four)
    if bias:
        made.bias = torch.nn.Parameter(torch.zeros(base.out_features, dtype=dtype), requires_grad=False)
    return made


def packed(model: Any, o: dict[str, Any]) -> Any:
    """The model, drawn on the meta device, with its linear layers packed one by one on the card and the rest drawn."""
    from transformers.quantizers.auto import AutoHfQuantizer
    from transformers.utils.quantization_config import BitsAndBytesConfig

    scheme = str(o["quantization"])
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear and name not in LEFT:
                setattr(module, name, layer_of(child, dtype_of(o), scheme).to(DEVICE))
    seen: dict[int, torch.nn.Parameter] = {}  # tied parameters stay one
    for module in model.modules():
        for name, p in list(module._parameters.items()):
            if p is not None and p.is_meta:
                if id(p) not in seen:
                    values = torch.randn(p.shape, dtype=p.dtype, device=DEVICE) * SCALE
                    seen[id(p)] = torch.nn.Parameter(values, requires_grad=p.requires_grad)
                module._parameters[name] = seen[id(p)]
        for name, b in list(module._buffers.items()):
            if b is not None and b.is_meta:
                module._buffers[name] = torch.rand(b.shape, device=DEVICE).to(b.dtype)
    model.tie_weights()
    if scheme == "int8":
        said, flag = BitsAndBytesConfig(load_in_8bit=True), "is_loaded_in_8bit"
    else:
        double = scheme == "nf4-dq"
        said = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double)
        flag = "is_loaded_in_4bit"
    model.is_quantized = True
    setattr(model, flag, True)
    model.config.quantization_config, model.hf_quantizer = said, AutoHfQuantizer.from_config(said)
    return model


def base_of(config: dict[str, Any], o: dict[str, Any], scores: bool = False) -> Any:
    """The model on the card, packed and prepared where the options say so."""
    if o.get("quantization"):
        model = packed(drawn(config, o, scores, "meta"), o)
        if not o.get("prepare_kbit"):
            return model
        import peft

        kwargs = {"use_reentrant": bool(o.get("reentrant"))}
        return peft.prepare_model_for_kbit_training(model, o.get("checkpointing") == "full", kwargs)
    model = drawn(config, o, scores, DEVICE)
    with torch.no_grad():
        for p in model.parameters():
            if not torch.isfinite(p).all():  # left empty by its class
                p.normal_(0, SCALE)
    return model


def peft_config(o: dict[str, Any], task: str | None) -> Any:
    """peft's config of the options' method."""
    import peft

    dora = o["method"] == "dora"
    given = {k: v for k, v in (o.get("args") or {}).items() if k != "autocast_adapter_dtype"}
    if task:
        given["task_type"] = task
    if "rank" in o:
        given["r"] = int(o["rank"])
    if "targets" in o:
        targets = str(o["targets"])
        given["target_modules"] = targets if targets == "all-linear" else targets.split(",")
    if dora:
        given["use_dora"] = True
    kind = getattr(peft.PeftType, "LORA" if dora else str(o["method"]).upper())
    return peft.PEFT_TYPE_TO_CONFIG_MAPPING[kind](**given)


def adapted(model: Any, config: dict[str, Any], o: dict[str, Any]) -> Any:
    """The model with its adapter, or with all frozen but its last layers (freeze) or its biases (bitfit)."""
    method = o.get("method", "full")
    if method == "full":
        return model
    if method == "freeze":
        model.requires_grad_(False)
        layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
        for layer in list(layers)[-int(o["trainable_layers"]) :]:
            layer.requires_grad_(True)
        return model
    if method == "bitfit":
        for name, p in model.named_parameters():
            p.requires_grad_(name.endswith(".bias"))
        return model
    import peft

    masked = "MaskedLM" in config["architectures"][0]
    task = "SEQ_2_SEQ_LM" if config.get("is_encoder_decoder") else None if masked else "CAUSAL_LM"
    cast = (o.get("args") or {}).get("autocast_adapter_dtype", True)
    return peft.get_peft_model(model, peft_config(o, task), autocast_adapter_dtype=cast)


class Muon:
    """torch.optim.Muon for the matrices, AdamW for the rest."""

    def __init__(self, matrices: list[Any], rest: list[Any]) -> None:
        self.both = (torch.optim.Muon(matrices, lr=RATE), torch.optim.AdamW(rest, lr=RATE))

    def step(self) -> None:
        for one in self.both:
            one.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for one in self.both:
            one.zero_grad(set_to_none=set_to_none)


def optimizer_of(name: str, model: Any) -> Any:
    """The optimizer of a loop of one's own by llmcalc's name; matrices: of linear layers, not the output's."""
    params = [p for p in model.parameters() if p.requires_grad]
    head = model.get_output_embeddings()
    linear = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    matrices = [w for w in linear if w.requires_grad and w.ndim == 2]
    rest = [p for p in params if id(p) not in {id(w) for w in matrices}]
    if name == "muon":
        return Muon(matrices, rest)
    if name == "adam-mini":
        from adam_mini import Adam_mini

        c = getattr(model.config, "text_config", model.config)
        heads = {"n_heads": c.num_attention_heads, "n_kv_heads": getattr(c, "num_key_value_heads", None)}
        return Adam_mini(model.named_parameters(), lr=RATE, dim=c.hidden_size, verbose=False, **heads)
    if name in PROJECTED:
        module, kind, more = PROJECTED[name]
        return getattr(importlib.import_module(module), kind)([{"params": rest}, {"params": matrices, **more}], lr=RATE)
    if name not in OPTIMIZERS:
        return measure_memory.optimizer_of(name, params)
    module, kind, more = OPTIMIZERS[name]
    made = getattr(importlib.import_module(module), kind)(params, lr=RATE, **more)
    if module == "schedulefree":
        made.train()
    return made
