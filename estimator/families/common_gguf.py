"""How llama.cpp writes a family down: its GGUF name, and what its graph does otherwise than the checkpoint's class.

A family's file holds ``GGUF``: model_type -> :class:`Gguf`. Everything that the blocks say already (norms, biases,
windows, experts, head widths) is read off the :class:`~estimator.families.base.Architecture`; here stands only what
they cannot say. Read off the graphs that llama.cpp build 11549 reserves, and its src/models/*.cpp.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

from estimator.config import Config
from estimator.families import FAMILIES
from estimator.families.base import Architecture
from estimator.records import NamedTuple
from estimator.trace import value_of

TEXT_TYPE = "text_type"  # the fact of a multimodal model that names its text

# the fact of an encoder-decoder that says for how many rows of its encoder a pass of its decoder is reserved
ENCODER_ROWS = "encoder_rows"

RESCALED = "rescale_every"  # the fact of a model whose stream is halved behind every so many layers (RWKV 6)

BRANCH, RESIDUAL, MIXER, MLP_OUT = "branch", "residual", "mixer", "mlp"


FALCON = "falcon"  # the quantizer's own rules for LLM_ARCH_FALCON
SEVENTY, SEVENTY_GROUPED = "70b", "70b-grouped"  # 80 layers are a "70B" to the loader: always, or with fewer key heads
PLAIN_MLP = "plain-mlp"  # nor an MLP's matrices (RWKV's channel mixing)
PLAIN_OUT = "plain-out"  # the quantizer does not know an attention's output by its name (T5's attn_o)
HEADS_BY_LAYER = "heads-by-layer"  # head counts stand layer by layer in the file, 0 where there is no attention


class Router(NamedTuple):
    """How the experts of a token are chosen and weighted.

    score      "softmax" or "sigmoid" over all experts, "chosen": softmax over the chosen ones alone
    normed     the chosen experts' weights are divided by their sum
    corrected  a correction bias is added to the scores that choose (not to the weights)
    first      True where the weights multiply the experts' input (Llama 4), else their output
    joined     True where gate and up of the experts are one tensor of the file; scaled: each expert's output is scaled
    opened     how a shared expert's gate is written: "sigmoid", or "division" (silu(g) / g: Qwen2-MoE)
    """

    score: str = "softmax"
    normed: bool = True
    corrected: bool = False
    first: bool = False
    joined: bool = False
    scaled: bool = False
    opened: str = "sigmoid"


SIGMOID = Router("sigmoid", corrected=True)  # as DeepSeek-V3's, with weights that are divided by their sum


EXPERTS = "expert_weights"  # the fact of what a config says of its chosen experts' weights


def said_of_experts(
    c: Config, normed: str | None = "norm_topk_prob", scale: str = "routed_scaling_factor"
) -> dict[str, Any]:
    """The fact of a config: whether the weights of a token's experts are divided by their sum (normed None: always),
    and then multiplied. As the converter reads it: a field that is not there says no, whatever the class's default.
    """
    return {EXPERTS: (normed is None or bool(c.raw.get(normed)), c.raw.get(scale) not in (None, 0, 1))}


class Gguf(NamedTuple):
    """What llama.cpp makes of a family.

    name             ``general.architecture`` of its files
    windows          True where it keeps a cache of the window's size for windowed layers; elsewhere it keeps every
                     token in every layer, whatever the config says of windows
    split            True where the file holds apart what the checkpoint fuses: q, k and v; gate and up
    folded           True where the scales of the embedding and of the heads are multiplied into the file's matrices
    positions        numbers of a token's position: 4 for images beside text (M-RoPE)
    deepstack        layers to whose outputs an image's own rows are added, which come behind its embedding (Qwen3-VL)
    packed           True where the file holds q, k and v as one matrix though the checkpoint holds three
    scaled_queries   True where the queries are multiplied by 1/sqrt(d_h) in the graph, not in the kernel
    embed_rows       True where the embedding's scale is a number a row (Gemma 3: image rows are not scaled)
    sums             the first operand of the sums after the mixer and after the MLP: "branch" or "residual"; it is
                     the one whose memory the sum takes over
    parallel         the operands of the two sums of a parallel layer, in order
    rms              True where it norms by RMS what the checkpoint's class gives a LayerNorm (Phi-3.5-MoE)
    rows_first       True where a parallel layer's second norm sees the wanted rows only (GPT-NeoX)
    rows_last        True where the wanted rows are taken behind the norm after the last layer's mixer (AFM)
    full_factors     True where windowed layers turn without those factors (Gemma 4)
    rope_tables      tables of rotary factors that its files hold, whatever the config says of scaling (Llama 4)
    early_norm       True where the norm before the mixer is expanded before the mixer's states are read
    layer_scale      True where a number of the file scales each layer's output (Gemma 4)
    up_first         True where an MLP's up is computed before its gate, and the two multiplied in a node of their own
    all_keys         True where its files hold keys and values of layers that reuse others' (Gemma 3n)
    table_first      True where the rows of the layers' own inputs are read before the token table's (Gemma 4)
    keeps_last       True where the last layer's output is a graph output (gpt-oss), so never freed
    quantizer        what its quantizer's rules ask about the architecture: FALCON, SEVENTY ...
    router           how experts are chosen
    halves           ends of the names of modules or weights that no quantizer touches and the file holds in 16 bits
    singles          ends of the names of modules that the file holds in fp32
    stand_ins        (part of a name, another): what bears the first stands in the file for what would bear the other in
                     the first layer, where the class has nothing (RWKV 7)
    sided            True where its blocks stand under their side's name, enc. or dec. (T5): llama.cpp asks it for every
                     row, and keeps a cache for an encoder alone too, which nothing reads
    graph_alone      True where what llama.cpp computes is described, and of the class its weights alone (RWKV 6 and 7)
    whole_mla        True where latent attention expands its keys and values and caches them by heads (MiniCPM 3)
    both_ways        what it makes of the family's encoder, whose attention looks both ways (EmbeddingGemma)
    reader           what makes a config of a header's keys, where the table of gguf_architectures.py lacks the name
    """

    name: str
    windows: bool = False
    split: bool = False
    folded: bool = False
    positions: int = 1
    deepstack: int = 0
    packed: bool = False
    scaled_queries: bool = False
    embed_rows: bool = False
    sums: tuple[str, str] = (BRANCH, BRANCH)
    parallel: tuple[str, str, str] = (MLP_OUT, RESIDUAL, MIXER)
    rms: bool = False
    rows_first: bool = False
    rows_last: bool = False
    rope_tables: int = 0
    full_factors: bool = False
    early_norm: bool = False
    layer_scale: bool = False
    up_first: bool = False
    all_keys: bool = False
    table_first: bool = False
    keeps_last: bool = False
    quantizer: tuple[str, ...] = ()
    router: Router = Router()
    halves: tuple[str, ...] = ()
    singles: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    sided: bool = False
    graph_alone: bool = False
    whole_mla: bool = False
    both_ways: Gguf | None = None
    reader: Callable[[Any], dict[str, Any]] | None = None


def gguf_of(arch: Architecture) -> Gguf | None:
    """What llama.cpp makes of a model, of a multimodal one of its text; None where it has no architecture for it (or
    none is known here).
    """
    for model_type in (arch.model_type, str(arch.facts.get(TEXT_TYPE, ""))):
        if model_type in FAMILIES:
            module: Any = import_module(f"estimator.families.{FAMILIES[model_type]}")
            found: dict[str, Gguf] = getattr(module, "GGUF", {})
            if model_type in found:
                made = found[model_type]
                return made.both_ways or made if encodes(arch) else made
    return None


def traits(arch: Architecture) -> Gguf:
    """As :func:`gguf_of`; where that is None, a nameless one of which nothing special is known."""
    return gguf_of(arch) or Gguf("")


def graph_of(model: Any) -> Gguf | None:
    """What llama.cpp makes of a :class:`~estimator.models.Model`; InputError where nothing computed is described."""
    found = gguf_of(model.architecture)
    return found if found is not None and found.graph_alone else gguf_of(model.described)


def elsewhere(arch: Architecture) -> str:
    """What is added where a class's weights alone are known: that llama.cpp's graph is known too, or nothing."""
    found = gguf_of(arch)
    return "" if found is None or not found.graph_alone else "; what llama.cpp does is: --engine llama.cpp"


def encodes(arch: Architecture) -> bool:
    """Whether every token sees every other: an encoder, which keeps no cache."""
    looks = [a.causal for a in arch.attentions]
    return arch.kind == "encoder" or (arch.kind == "decoder" and bool(looks) and not any(looks))


def two_sided(arch: Architecture) -> bool:
    """Whether it has an encoder beside its decoder."""
    return arch.kind == "encoder-decoder"


def blocks(arch: Architecture) -> int:
    """Blocks of its file; one of an encoder-decoder holds a layer of either side."""
    sides: Counter[str] = Counter()
    for x in arch.layers:
        sides[x.side if two_sided(arch) else ""] += int(value_of(x.times))
    return max(sides.values(), default=0)


def of_side(arch: Architecture, side: str) -> Architecture:
    """The encoder or the decoder of an encoder-decoder alone; any other as it is."""
    if not two_sided(arch):
        return arch
    kept = tuple(x for x in arch.layers if x.side == side)
    if side == "decoder":
        return arch._replace(layers=kept)
    return arch._replace(layers=kept, kind="encoder", final=arch.encoder_final, head=None, has_head=False)
