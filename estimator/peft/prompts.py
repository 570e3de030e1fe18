"""What the methods that prepend virtual tokens share: how many, how wide, in how many layers.

Source: peft 0.21.2, utils/other.py (_prepare_prompt_learning_config) and peft_model.py (_setup_prompt_encoder).
"""

from __future__ import annotations

from typing import Any

from estimator.errors import InputError
from estimator.families.base import Attention
from estimator.peft.base import Build
from estimator.peft.mappings import NO_GROUPS, UNREAD

DEFAULT_TOKENS = 20
FIELDS = "num_transformer_submodules num_attention_heads modules_to_save"
ARGS: dict[str, Any] = {"num_virtual_tokens": None, "token_dim": None, "num_layers": None}


def tokens(b: Build) -> Any:
    """Virtual tokens; peft has no default, so one is assumed and said."""
    if not b.args.has("num_virtual_tokens"):
        b.notes.append(f"num_virtual_tokens is not given: {DEFAULT_TOKENS} assumed")
        b.args.given["num_virtual_tokens"] = DEFAULT_TOKENS
    b.virtual_tokens = b.args.count("num_virtual_tokens")
    return b.virtual_tokens


def width(b: Build) -> Any:
    """The width of a virtual token: the model's."""
    for name, types in UNREAD.items():
        if b.arch.model_type in types.split() and not b.args.has(name):
            raise InputError(
                f"--method {b.method.name}: the peft library cannot read {name} of model type "
                f"{b.arch.model_type!r}; give --arg {name}=..."
            )
    return b.args.count("token_dim") if b.args.has("token_dim") else b.arch.hidden


def submodules(b: Build) -> int:
    """2 for an encoder-decoder (each side has its own tokens), else 1."""
    given = b.args.given.get("num_transformer_submodules")
    if given is not None:
        return int(b.args.count("num_transformer_submodules"))
    task = b.args.given.get("task_type")
    both = task == "SEQ_2_SEQ_LM" if task else b.arch.kind == "encoder-decoder"
    return 2 if both else 1


def layers(b: Build) -> Any:
    """Layers with a prefix; of an encoder-decoder peft counts the encoder's."""
    if b.args.has("num_layers"):
        return b.args.count("num_layers")
    if b.arch.kind == "encoder-decoder":
        return sum(x.times for x in b.arch.layers if x.side == "encoder")
    return b.arch.num_layers


def attention(b: Build) -> Attention | None:
    """The first attention of the model."""
    return next((x.mixer for x in b.arch.layers if isinstance(x.mixer, Attention)), None)


def key_value_width(b: Build) -> Any:
    """Width of a layer's keys (or values) as peft reads it: key/value heads times head width."""
    whole = width(b)
    first = attention(b)
    ungrouped = b.arch.kind == "encoder-decoder" or b.arch.model_type in NO_GROUPS.split()
    if b.args.has("token_dim") or first is None or ungrouped:
        return whole
    if first.mla is not None:  # peft reads head_dim, which an MLA config sets to the rotary width
        return first.kv_heads * first.mla["rope"]
    return first.kv_heads * first.head_dim
