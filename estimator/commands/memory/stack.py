"""What a training stack's options make of a step: widths, autocast, losses, what stands and what is held."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from estimator.card import find_card
from estimator.commands.memory.storage import EIGHT_BITS, STACK, UNPACKED, WIDTHS
from estimator.errors import InputError
from estimator.families.base import MoE
from estimator.names import choice
from estimator.questions.base import given, spelt
from estimator.questions.parts import Stacked
from estimator.sizes import size_option
from estimator.stack import compiled, compiled_sides
from estimator.stack.dropout import Dropout, skips, stated
from estimator.stack.kernels import BEFORE_FLASH, serving_threads
from estimator.stack.liger_mappings import TORCH, UNFUSED, Replaced, liger_kernels
from estimator.stack.releases import release
from estimator.stack.tape import F32
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.commands.memory.question import Memory
    from estimator.peft.base import Adapter
    from estimator.recipes.base import Recipe

CHOICES = {
    "autocast": ("none", "bf16", "fp16"),
    "gradients": ("freed", "kept"),
    "kernels": ("torch", "liger"),
    "reference": ("policy", "precomputed"),
}
COMPILED = (
    "torch.compile: what inductor kept of 30 measured steps of decoders (torch 2.11), within 1.3% of all but one "
    "(2.0%); another version may choose otherwise"
)
COMPILED_SIDES = (
    "torch.compile: what inductor kept of 20 measured steps of encoders and encoder-decoders (torch 2.11), within 4% of"
    " all and 1% of half; another version may choose otherwise"
)
NOT_COMPILED = (
    "torch.compile of such a step is not described: it is counted as it runs without it; two measured ones "
    "(adapters in a checkpointed encoder-decoder, experts in fp32) took from 33% less to 6% more"
)
LIGER = {
    TORCH: "liger-kernel 0.8 does not know {}: nothing is replaced",
    UNFUSED: "Liger leaves the loss of {} as it is, unless asked for",
}
REFERENCES = {
    "model": "a frozen copy of the model",
    "adapter off": "the model with the adapter off",
    "": "gone: its log-probabilities were computed before (precompute_ref_log_probs)",
}
NO_REFERENCE = "there is no reference: the KL term's coefficient is 0, as it is by default (--reference policy)"
CHECKPOINTS = "--checkpointing not given: off, where {}'s own default is on (--checkpointing full)"


def unused_by(recipe: Recipe, q: Stacked, names: Collection[str]) -> list[str]:
    """A sentence for each of these options that is given, for which a paper's recipe has no use."""
    return [f"{spelt(q, f)} is not used by recipe {recipe.name}" for f in given(q) if f.name in names]


def width_of(recipe: Recipe, asked: str, said: list[str], given_dtype: bool) -> int:
    """Bytes of a weight: the recipe's, or as the checkpoint holds them."""
    if given_dtype and asked not in WIDTHS:
        said.append(f"--dtype {asked} changes nothing in training: weights of {recipe.width or 2} bytes are trained")
    if not recipe.width:
        return WIDTHS.get(asked, 2)
    if given_dtype and WIDTHS.get(asked, recipe.width) != recipe.width:
        said.append(f"--dtype {asked} is not used: recipe {recipe.name} stores {recipe.width} bytes a weight")
    return recipe.width


def replaced(q: Memory) -> Replaced:
    """What the kernels asked for replace in this model."""
    return liger_kernels(q.model.architecture.model_type) if q.kernels == "liger" else TORCH


def kernels_of(q: Memory, recipe: Recipe, adapter: Adapter | None) -> Replaced:
    """What runs in the place of PyTorch's operations: as asked, and LoRA's own functions where the stack has them."""
    if not recipe.adapters or adapter is None or adapter.method.name not in ("lora", "qlora"):
        return replaced(q)
    return replace(replaced(q), mlp=True, adapters=True)


def loss_of(q: Memory, recipe: Recipe) -> str:
    """The loss: as asked, as the stack brings it, or Liger's where its kernels run and the stack has none."""
    if q.loss != "full" or recipe.loss != "full":
        return str(q.loss if q.loss != "full" else recipe.loss)
    return "fused" if replaced(q).loss else "full"


def reference_of(q: Any, recipe: Recipe, adapter: Adapter | None) -> str:
    """What scores the batch beside the policy: a frozen copy of it, the model with the adapter off, or nobody."""
    if not recipe.reference or q.reference == "precomputed" or (recipe.reference == "before" and q.reference is None):
        return ""
    return "model" if adapter is None else "adapter off"


def answer_share(q: Any, recipe: Recipe, s: Any, said: list[str]) -> Fraction:
    """The share of a sequence's ``s`` tokens that the loss is taken on: as asked, or the recipe's."""
    if q.answer_len is None:
        return recipe.scored
    if recipe.scored == 1:
        said.append(f"--answer-len is not used by recipe {recipe.name}")
        return recipe.scored
    answer = value_of(size_option(q.model, q.answer_len, "--answer-len", "answer_len", "length"))
    if answer >= value_of(s):
        raise InputError(f"--answer-len {answer}: must be less than the whole sequence, {value_of(s)} tokens")
    return Fraction(int(answer), int(value_of(s)))


def micro_batches(q: Memory) -> int:
    """Micro-batches of an optimizer step."""
    return int(value_of(size_option(q.model, q.accumulation, "--accumulation", "accumulation", "length")))


def drops_of(q: Memory, recipe: Recipe) -> Dropout:
    """Where the model drops: as its config states; nowhere where the stack sets every torch.nn.Dropout to 0."""
    arch = q.model.architecture
    if not q.model.config or not (recipe.drops or (recipe.silent and arch.drops_by_call)):
        return Dropout(silent=recipe.silent)
    found = stated(q.model.config.raw, arch.facts.get("drops", {}), arch.dropouts)
    if recipe.drops:
        return found
    called = all(a.form == "interface" for a in arch.attentions)  # its dropout is an argument, not a module's
    return found._replace(silent=True, attention=found.attention and called)


def compiled_as(q: Memory, loss: str, whole: bool, width: int) -> str:
    """What is known of such a step under torch.compile; ``whole``: nothing is packed or adapted."""
    arch = q.model.architecture
    if arch.kind == "decoder":
        seen = compiled.known(arch, loss, q.activation_offload, q.checkpointing, width)
        return COMPILED if seen else NOT_COMPILED
    whole = whole and q.trainable_layers is None and q.kernels != "liger"
    seen = compiled_sides.known(arch, loss, q.activation_offload, q.checkpointing, whole)
    return COMPILED_SIDES if seen else NOT_COMPILED


def fields_of(
    q: Memory, recipe: Recipe, adapter: Adapter | None, quantization: str, width: int, cast: bool, s: Any,
    said: list[str],
) -> dict[str, Any]:
    """The fields of :class:`estimator.moments.Workload` that the stack decides."""
    for name, known in CHOICES.items():
        if getattr(q, name) is not None:
            choice(getattr(q, name), f"--{name}", known)
    if recipe.kind not in ("simulated", "deepspeed"):
        said += unused_by(recipe, q, (*STACK, "loss"))
        return {}
    if q.prepare_kbit and quantization not in (*UNPACKED, *EIGHT_BITS):
        raise InputError(f"--prepare-kbit is for a base of 4 or 8 bits: add --quantization {UNPACKED[0]} or int8")
    if recipe.code is not None and q.model.described.kind != "decoder":
        raise InputError(f"--recipe {recipe.name} runs decoders, and {q.model.name} is an {q.model.described.kind}")
    if recipe.code is not None and recipe.code.fuses:
        others = (
            bool(a.gate or a.mla) or (a.form != "interface" and len(a.projections) > 1)
            for a in q.model.described.attentions
        )
        if any(others):
            raise InputError(f"--recipe {recipe.name}: its attention is not {q.model.described.model_type}'s")
    card, of = find_card(q.gpu, q.gpu_memory).kernels, recipe.code or release(q.transformers)
    amp = recipe.amp if q.autocast is None else q.autocast != "none"
    half = "fp16" if "fp16" in (q.autocast, q.dtype) else "bf16"
    kept = micro_batches(q) > 1 or q.gradients == "kept"
    drops = drops_of(q, recipe)
    if recipe.code is None and q.model.config:
        said += skips(q.model.config.raw)
    if recipe.code is not None and q.transformers is not None:
        said.append(f"--transformers is not used by recipe {recipe.name}, whose modeling code is its own")
    elif q.transformers is not None:
        said += of.said()
    if half == "bf16" and not card.bf16 and (amp or width == 2):
        said.append(f"{q.gpu} has no bf16 in hardware: PyTorch emulates it; fp16 takes the same bytes")
    if not card.flash and q.attention == "sdpa":
        said.append(BEFORE_FLASH.format(q.gpu))
    if recipe.reference == "before" and not reference_of(q, recipe, adapter):
        said.append(NO_REFERENCE)
    elif recipe.reference:
        said.append("the reference is " + REFERENCES[reference_of(q, recipe, adapter)])
    elif q.reference is not None:
        said.append(f"--reference is not used by recipe {recipe.name}")
    if recipe.checkpoints and q.checkpointing == "none":
        said.append(CHECKPOINTS.format(recipe.title))
    if recipe.scored != 1 and q.answer_len is None:
        said.append(f"the answer is {recipe.scored} of the tokens (--answer-len): the loss is taken on those alone")
    if q.kernels == "liger" and (note := LIGER.get(replaced(q))):
        said.append(note.format(q.model.architecture.model_type))
    if replaced(q).mlp and any(isinstance(x.mlp, MoE) for x in q.model.architecture.layers):
        said.append("Liger's experts, one fused function, are counted as transformers' own")
    if q.compile:
        said.append(compiled_as(q, loss_of(q, recipe), adapter is None and quantization == "none", width))
    if kept and q.optimizer_in_backward:
        raise InputError("--optimizer-in-backward drops each gradient at once: nothing is accumulated or kept")
    if kept:
        said.append("the gradients of the micro-batch before stand throughout")
    cast = cast or (adapter is not None and adapter.method.wide)
    return {
        "amp": amp, "half": half, "kept_gradients": kept, "kernels": kernels_of(q, recipe, adapter),
        "hold_outputs": q.hold_outputs or recipe.holds, "names_on": recipe.holds,
        "widens": recipe.widens,
        "adapter_width": adapter_width(recipe, quantization, width, cast), "kbit": q.prepare_kbit, "drops": drops,
        "moved": recipe.moves and quantization == "none",
        "scored": answer_share(q, recipe, s, said), "reference": reference_of(q, recipe, adapter),
        "scored_first": recipe.reference == "before",
        "packing": q.packing, "offload": q.activation_offload, "wide_embeddings": recipe.wide_embeddings,
        "reentrant": q.reentrant, "compiled": q.compile, "in_backward": q.optimizer_in_backward,
        "card": card, "release": of, "masked": recipe.masked, "loss": loss_of(q, recipe),
    }  # fmt: skip


def serving(q: Memory) -> dict[str, Any]:
    """The fields of a process that generates."""
    card = find_card(q.gpu, q.gpu_memory).kernels
    return {"loss": q.loss, "card": card, "threads": serving_threads(card)}


def adapter_width(recipe: Recipe, quantization: str, width: int, cast: bool) -> int:
    """Bytes of an adapter's number: fp32 (peft's cast), the base's without it, TRL's own over a packed base.

    Without the cast an adapter, made in fp32, takes the width of its base's weight, or of the products of one of 4
    bits; codes of 8 bits say no width (peft tuners/tuners_utils.py, _move_adapter_to_device_of_base_layer).
    """
    if not cast and quantization not in EIGHT_BITS:
        return width
    return recipe.quantised_adapters if quantization in (*UNPACKED, *EIGHT_BITS) else F32


def shape_of(q: Memory, recipe: Recipe, b: Any, s: Any) -> tuple[Any, Any]:
    """(rows, tokens of each) of a batch: an example may be several sequences, and packing makes one row of all."""
    b = b * recipe.sequences
    return (1, b * s) if q.packing else (b, s)
