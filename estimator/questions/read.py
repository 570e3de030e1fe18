"""What several commands read out of a question: tokens, the adapter, the base's storage, the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.models import Model
from estimator.sizes import size_option

if TYPE_CHECKING:
    from estimator.peft.base import Adapter
    from estimator.recipes.base import Recipe

DEFAULT_TOKENS = 2048
FULL = (None, "", "full")
FOUR_BITS = ("nf4", "nf4-dq", "fp4")  # bitsandbytes' own: a base that qlora takes as it is
NO_BACKWARD = ("mxfp4",)  # transformers 5.24: Mxfp4Config(dequantize=True) to train
DEFAULT_RECIPE = "trainer"  # weights as the checkpoint holds them, under bf16 autocast
CAST = "autocast_adapter_dtype"  # an argument of get_peft_model, not of a method's config
QLORA_BASE = "nf4-dq"  # Dettmers et al. 2023, arXiv 2305.14314: NF4 with double quantisation


def batch(model: Model, value: Any) -> Any:
    """Sequences of ``--batch-size``."""
    return size_option(model, value, "--batch-size", "batch_size", "length")


def tokens(model: Model, value: Any, said: list[str], new: int = 0) -> Any:
    """Tokens of ``--seq-len``: as given, else 2,048 or as many as the model has positions for beside ``new`` ones."""
    if value is None:
        positions = model.architecture.max_positions
        value = DEFAULT_TOKENS if positions is None else max(1, min(DEFAULT_TOKENS, positions - new))
        said.append(f"--seq-len not given: {value:,} tokens")
    return size_option(model, value, "--seq-len", "seq_len", "length")


def split_cast(args: Mapping[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """(the method's own arguments, whether get_peft_model casts what they add to fp32)."""
    own = dict(args or {})
    cast = own.pop(CAST, True)
    if not isinstance(cast, bool):
        raise InputError(f"--arg {CAST}: must be true or false, got {str(cast)[:20]!r}")
    return own, cast


def adapter_of(q: Any) -> Adapter | None:
    """The adapter of ``--method`` and its options, None for full training. InputError for contradictions."""
    if q.method in FULL:
        for flag, value in (("--rank", q.rank), ("--targets", q.targets), ("--arg", q.args or None),
                            ("--trainable-layers", q.trainable_layers)):  # fmt: skip
            if value is not None:
                also = "freeze" if flag == "--trainable-layers" else "lora"
                raise InputError(f"{flag} belongs to an adapter: add --method {also}")
        return None
    from estimator.peft.asked import prepare

    return prepare(q.model, q.method, q.rank, q.targets, q.args, q.trainable_layers)


def storage_of(q: Any, said: list[str] | None = None) -> str | None:
    """The scheme of the weights: as given, double-quantised NF4 under ``--method qlora``; None: as the files say.

    A quantised checkpoint that is trained whole is unpacked first, and so is one whose kernels have no backward pass.
    """
    said = [] if said is None else said
    own = q.model.declared.scheme
    if q.method == "qlora" and q.quantization in (None, "none"):
        if own is not None and q.quantization is None and own.name in FOUR_BITS:
            return None
        said.append("--method qlora: the base is NF4 with double quantisation")
        return QLORA_BASE
    if q.quantization is not None or own is None or not getattr(q, "training", True):
        return None if q.quantization is None else str(q.quantization)
    if q.method in FULL or own.name in NO_BACKWARD:
        said.append(f"the checkpoint is stored as {own.name}: unpacked to train it (--quantization none)")
        return "none"
    return None


def recipe_of(q: Any, said: list[str]) -> Recipe:
    """The recipe of ``--recipe``; the default is one for every command that trains."""
    from estimator.recipes import find_recipe

    if q.recipe is not None:
        return find_recipe(q.recipe)
    said.append(f"--recipe not given: {DEFAULT_RECIPE}")
    return find_recipe(DEFAULT_RECIPE)


def scored(q: Any, recipe: Recipe) -> Any:
    """The question as a recipe with one score a sequence asks it: the model's class, and what peft trains with it."""
    if not recipe.scores:
        return q
    task = {} if q.method in (*FULL, "freeze") else {"task_type": "SEQ_CLS"}
    return replace(q, model=q.model.scored(), args={**task, **q.args})
