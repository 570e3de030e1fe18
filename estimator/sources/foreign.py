"""Configs of classes that are not transformers': what is counted in their place is said."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

# fields that look like sizes and change no weight: generation, training, positions, records of how it was made
_HARMLESS = re.compile(
    r"token|_id$|_ids$|rope|rotary|position|window|dropout|drop|pretrain|eps|initializer|max_|chunk|loss|aux|n_ctx|"
    r"num_logits|num_return|beam|length|num_labels|layer_norm_epsilon|embd_pdrop|image_size|sample|summary|version|"
    r"num_nextn|routing|group|topk|top_k|scal|sliding|query_pre|attention_type|frames|fps|audio|video|mtp|index_|classifier|pooler|codevector|adapter|conv_|feat_|decoder_vocab|"
    r"negatives|output_hidden|xvector|^vocab_size$|^num_hidden_layers$|"
    r"median_filter"
)
_SIZE = re.compile(
    r"^(n|num|number)_[a-z_]*$|_(size|dim|width|layers|heads|rank|experts|blocks|depth|channels|ratio|factor)$"
)

# transformers 5.24, activations.py; and what code of the hub's repositories calls two of them beside a gate
ACTIVATIONS = (
    "gelu gelu_10 gelu_accurate gelu_fast gelu_new gelu_python gelu_python_tanh gelu_pytorch_tanh hardswish laplace "
    "leaky_relu linear mish prelu quick_gelu relu relu2 relu6 sigmoid silu sqrtsoftplus swish tanh xielu geglu swiglu"
)
_OF_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")


def odd_activation(raw: Mapping[str, Any], where: str) -> list[str]:
    """A warning on an activation that transformers does not have."""
    return [
        f"WARNING: {where}: {f} {raw[f][:40]!r} is no activation of transformers: one kernel that keeps its input"
        for f in _OF_ACTIVATIONS
        if isinstance(raw.get(f), str) and raw[f].lower() not in ACTIVATIONS.split()
    ]


def foreign(raw: Mapping[str, Any], families: Mapping[str, str], where: str) -> list[str]:
    """Warnings on a config whose class is not the one that is counted, or comes with code of its own."""
    kind, named = raw.get("model_type"), raw.get("architectures")
    name = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    if not isinstance(kind, str) or kind not in families:
        return []
    same = [families[kind], *(t for t, module in families.items() if module == families[kind])]
    notes = odd_activation(raw, where)
    strange = bool(name) and not any(_names(name, t) for t in same)
    if strange:
        notes.append(
            f"WARNING: {where}: architectures names {name[:60]!r}, which is no class of transformers' {kind}: "
            f"what it adds to a {kind} is not counted"
        )
    own = _of_the_repository(raw.get("auto_map"))
    if own and strange:
        notes.append(f"{where}: auto_map: its class is code of the repository, which is not run")
    elif own and not any(_names(own, t) for t in same):
        notes.append(
            f"WARNING: {where}: auto_map names {own[:60]!r}, code of the repository, which is not run: "
            f"what it adds to a {kind} is not counted"
        )
    return notes


def _of_the_repository(auto_map: Any) -> str:
    """The model class that ``auto_map`` names, without its file, or ""."""
    if not isinstance(auto_map, Mapping):
        return ""
    classes = [v for k, v in auto_map.items() if str(k).startswith("AutoModel") and isinstance(v, str)]
    return classes[0].rpartition(".")[2] if classes else ""


def _names(cls: str, kind: str) -> bool:
    """Whether a class is named after a model_type: HunYuanDenseV1ForCausalLM after hunyuan_v1_dense too."""
    flat, stem = _flat(kind), _stem(cls)
    return _flat(cls).startswith(flat) or flat.startswith(stem) or sorted(flat) == sorted(stem)


def _flat(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removesuffix("_text").removesuffix("_vision_model"))


def _stem(name: str) -> str:
    """A class's name before its task: ``LlavaLlama`` of LlavaLlamaForCausalLM."""
    return _flat(re.split(r"For[A-Z]|LMHead|Model$|PreTrained|WithLM", name)[0]) or "?"


def sizes_not_read(raw: Mapping[str, Any], read: Collection[str], where: str) -> list[str]:
    """A note on whole numbers that look like sizes and that the class never asked for."""
    if "hidden_size" in raw and "hidden_size" not in read:  # read through a copy: what was asked for is not known
        return []
    latent = {"num_key_value_heads", "head_dim", "qk_head_dim"} if "kv_lora_rank" in raw else set()
    odd = [
        k for k, v in raw.items()
        if type(v) is int and v > 1 and k not in {*read, *latent} and _SIZE.search(k) and not _HARMLESS.search(k)
    ]  # fmt: skip
    slips = {k: near[0] for k in odd if (near := get_close_matches(k, sorted({*read} - {*raw}), n=1, cutoff=0.9))}
    if slips:
        said = ", ".join(f"{k} (did you mean {v}?)" for k, v in sorted(slips.items())[:3])
        return [f"WARNING: {where}: {said}: no class reads this; the class's own default was taken"]
    if not odd:
        return []
    shown = ", ".join(sorted(odd)[:5]) + (" ..." if len(odd) > 5 else "")
    return [f"{where}: {shown}: not read by this class; if it changes the weights, it is not counted"]
