"""A model as transformers itself builds it, without weights: on PyTorch's meta device (``--with-transformers``).

For configs that no family describes. Names, shapes and FLOPs are the library's own; nothing is downloaded, no code from
a repository is run, and no weight is allocated. Needs the extra ``measure``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.inventory import CONV, CONV1D, EMBEDDING, EXPERT, HEAD, LINEAR, NORM, NUMBER, OTHER, Weight

NEEDS = "--with-transformers needs torch and transformers: pip install 'llmcalc-estimator[measure]'"


def build(c: Config) -> Architecture:
    """The weights of the class that ``architectures`` names, or that transformers takes for the model_type."""
    model = meta_model(c)
    groups: dict[tuple[str, tuple[int, ...], str], list[int]] = {}
    for name, shape, role in listed(model):
        numbers = NUMBER.findall(name)
        groups.setdefault((NUMBER.sub("{i}", name), shape, role), []).append(int(numbers[0]) if numbers else 0)
    weights = tuple(Weight(name, shape, len(at), role) for (name, shape, role), at in groups.items())
    c.notes.append(f"built by transformers {version()} on the meta device as {type(model).__name__}")
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return Architecture(
        model_type=c.text("model_type", ""), embeddings=(), layers=(), final=(), head=None, tied=False, vocab=0,
        hidden=0, num_layers=getattr(config, "num_hidden_layers", 1), has_head=False, extra_weights=weights,
        counted_only=True, routed=routed(config, weights),
    )  # fmt: skip


def version() -> str:
    import transformers

    return str(transformers.__version__)


def meta_model(c: Config) -> Any:
    """The class on the meta device; one-line InputError for everything that the library refuses."""
    try:
        import torch
        import transformers
    except ImportError:
        raise InputError(NEEDS) from None
    transformers.logging.set_verbosity_error()
    raw = {k: v for k, v in c.raw.items() if k not in ("auto_map", "quantization_config")}
    named = c.items("architectures")
    try:
        config = transformers.AutoConfig.for_model(**raw)
        config._attn_implementation, config._experts_implementation = "eager", "batched_mm"
        found = getattr(transformers, str(named[0]), None) if named else None
        with torch.device("meta"):
            model = found(config) if found is not None else any_model(config)
        model.tie_weights()
    except Exception as error:  # the library's own errors, of any kind
        first = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{c.where}: transformers {version()} does not build it: {first}") from None
    return model


def any_model(config: Any) -> Any:
    """A model of a config without ``architectures``: with a language model's head where there is such a class."""
    import transformers

    kinds = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText")
    for name in (*kinds, "AutoModel"):
        auto = getattr(transformers, name, None)
        if auto is not None and type(config) in auto._model_mapping:
            return auto.from_config(config)
    raise ValueError(f"no class for {config.model_type}")


def listed(model: Any) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """(name, shape, role) of every parameter once, under the name that comes first."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for leaf, p in module.named_parameters(recurse=False):
            if id(p) not in seen:
                seen.add(id(p))
                name, shape = (f"{prefix}.{leaf}" if prefix else leaf), tuple(int(n) for n in p.shape)
                yield name, shape, role_of(module, name, shape, model)


def role_of(module: Any, name: str, shape: tuple[int, ...], model: Any) -> str:
    """What a parameter is, by the module that holds it."""
    import torch

    kind = type(module).__name__
    if "expert" in name and len(shape) == 3:
        return EXPERT
    if isinstance(module, torch.nn.Embedding):
        return EMBEDDING if module is asked(model, "get_input_embeddings") else OTHER
    if isinstance(module, torch.nn.Linear):
        return HEAD if module is asked(model, "get_output_embeddings") else LINEAR
    if kind == "Conv1D":
        return CONV1D
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        return CONV
    return NORM if "norm" in kind.lower() else OTHER


def asked(model: Any, getter: str) -> Any:
    try:
        return getattr(model, getter)()
    except (NotImplementedError, AttributeError):
        return None


def routed(config: Any, weights: tuple[Weight, ...]) -> tuple[int, int] | None:
    """(experts, experts a token) where there are stacked experts."""
    from estimator.families.recorded import PER_TOKEN

    experts = next((w.shape[0] for w in weights if w.role == EXPERT and len(w.shape) == 3), None)
    used = next((getattr(config, n) for n in PER_TOKEN if isinstance(getattr(config, n, None), int)), None)
    return (int(experts), int(used)) if experts and used and used <= experts else None


def forward_flops(c: Config, b: int, s: int) -> tuple[int, Counter[str]]:
    """FLOPs of a forward pass over b sequences of s tokens, in all and by operator, as FlopCounterMode counts them."""
    model = meta_model(c)
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.zeros(b, s, dtype=torch.long, device="meta")
    kwargs = {"input_ids": ids}
    if getattr(model.config, "is_encoder_decoder", False):
        kwargs["decoder_input_ids"] = ids
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(**kwargs)
    except Exception as error:  # a pass that looks at values has none on the meta device
        first = " ".join(str(error).split())[:160] or type(error).__name__
        why = "does not run on token ids alone, without values"
        raise InputError(f"{c.where}: {type(model).__name__} {why}, so its FLOPs are not counted: {first}") from None
    parts = Counter({str(op).removeprefix("aten."): n for op, n in counter.get_flop_counts().get("Global", {}).items()})
    return int(counter.get_total_flops()), parts
