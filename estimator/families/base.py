"""What a model family builds from a config: an :class:`Architecture`, described in blocks.

The blocks say *what is computed*: shapes, names, which products, which norms. How a software stack carries it out
(what it saves for a backward pass, in which width) is a recipe's business. Every other number is a fold over this
description: parameters and adapters over :meth:`Architecture.weights`, FLOPs over the matrices, caches over the
mixers, activation memory over the layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from estimator.families.common_parts import Buffer, Classes, Extra, Indexer, Linear, Lookup, Norm, Pooling, Streams
from estimator.families.feeds import MLP, Ahead, Copies, MoE, NoMixer, SideChain
from estimator.families.mixers import Attention, Disentangled, StateSpace
from estimator.families.towers import Tower
from estimator.inventory import (
    CONV1D,
    EMBEDDING,
    EXPERT,
    HEAD,
    LINEAR,
    NORM,
    OTHER,
    POSITION,
    ROUTER,
    TOKEN_TYPE,
    Weight,
)
from estimator.ops import NOTHING
from estimator.records import NamedTuple
from estimator.same import Same

LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")  # the classes that families describe


class Layer(NamedTuple):
    """One layer; ``times`` identical ones stand at ``indices`` (None: all of the stack).

    wiring    "pre" (norm, mixer, add, norm, mlp, add), "post" (BERT, OLMo 2: norms after), "parallel" (one or two
              norms, mixer and mlp side by side: GPT-J, Falcon, Cohere), "sandwich" (Gemma 2 to 4), "mixer" (Mamba: no
              mlp), "feed" (Nemotron-H: no mixer), "streams" (DeepSeek-V4: pre-norm branches on residual streams),
              "altup" (Gemma 3n: a sandwich on one of several copies of the stream), "shortcut" (LongCat-Flash: "pre",
              and what the experts put out is added after the next group's layer, which runs within this one)
    second    a recurrent mixer that reads what the mixer reads, and is added to it (Falcon-H1), or None
    branch_norms  True where "post" norms act on the branch before the addition (OLMo 2), not on the sum (BERT)
    norms     in state-dict order; norm_roles names each: "input", "post_mixer", "pre_mlp", "post_mlp",
              and "pre_cross" or "post_cross" of the attention over the encoder
    cross     a second attention over the encoder (decoders of encoder-decoder models)
    side      "encoder" or "decoder"
    shared    True where all layers share one set of weights (ALBERT): weights count once, work counts ``times``
    chains    matrices beside the two branches
    streams   how the residual streams meet each branch ("streams"), or (); ahead: a shared block before the mixer
    residual_weights  what multiplies the stream before each branch is added to it (Doge), or ()
    keeps     what the code still names while it runs: "branch" (the mixer's output, until the layer returns), "input"
              (the mixer's input, likewise), "probs" (the attention probabilities, through the next layer)
    then      of a "shortcut" in a simulated run, the layer that runs within it: :func:`together`
    """

    times: Any
    mixer: Attention | StateSpace | NoMixer
    mlp: MLP | MoE | None
    norms: tuple[Norm, ...]
    norm_roles: tuple[str, ...]
    wiring: str = "pre"
    cross: Attention | None = None
    side: str = "decoder"
    shared: bool = False
    indices: tuple[int, ...] | None = None
    residual_scale: bool = False
    branch_norms: bool = False
    extras: tuple[Any, ...] = ()
    keeps: tuple[str, ...] = ()
    chains: tuple[SideChain, ...] = ()
    second: StateSpace | None = None
    streams: tuple[Streams, ...] = ()
    residual_weights: tuple[Extra, ...] = ()
    ahead: Ahead | None = None
    then: Layer | None = None

    def parts(self) -> tuple[Any, ...]:
        return (
            *self.mixer.parts(),
            *(self.second.parts() if self.second else ()),
            *(self.cross.parts() if self.cross else ()),
            *(self.mlp.parts() if self.mlp else ()),
            *self.norms,
            *self.extras,
            *self.residual_weights,
            *(self.ahead.parts() if self.ahead else ()),
            *(x for chain in self.chains for x in chain.parts()),
            *(x for each in self.streams for x in each.parts()),
            *(self.then.parts() if self.then else ()),
        )

    def linears(self) -> tuple[Linear, ...]:
        """Every matrix of the layer outside the routed experts."""
        return tuple(p for p in self.parts() if isinstance(p, Linear))

    def weights(self) -> Iterator[Weight]:
        if self.ahead is not None:
            yield from self.ahead.weights(self.times, self.indices)
            yield from self._replace(ahead=None).weights()
            return
        for part in self.parts():
            for w in part.weights(1 if self.shared else self.times):
                yield (
                    w if self.indices is None or self.shared else Weight(w.name, w.shape, w.times, w.role, self.indices)
                )


def together(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The groups as they run: a "shortcut" takes the layers of the next group into its own."""
    out: list[Layer] = []
    for layer in layers:
        if out and out[-1].wiring == "shortcut" and out[-1].then is None:
            out[-1] = out[-1]._replace(then=layer)
        else:
            out.append(layer)
    return tuple(out)


class Architecture(NamedTuple):
    """A whole model.

    embeddings   tables, embedding norms and projections before the first layer
    layers       groups of identical layers, encoder first
    final        norms and projections after the last layer (before the head)
    head         the output matrix where it has weights of its own; None where tied or absent
    tied         True where the output reuses the token table; has_head: False for models without logits
    head_extras  the head's own dense layers, norms and biases (BERT's prediction head)
    kind         "decoder", "encoder", "encoder-decoder"
    facts        what other modules need to know: vocab, hidden, max_positions, embed_scale, logit_softcap ...
    encoder_embeddings, encoder_final   of an encoder-decoder: the encoder's own tables and norms (a shared token
                 table stands in ``embeddings``, which otherwise holds the decoder's)
    pooler       layers that see one token a sequence (BERT's pooler, classification heads)
    beside       tables, matrices and norms that every token meets outside the stack, beside the embeddings and the head
                 (Gemma 3n and 4: an input of each layer's own)
    buffers      persistent buffers, stored with the model but no parameters; constants: those that are not stored
    head_name    the module of the head, where it is tied and so not in ``head``; head_bias_tied: its bias too is that
                 of another module (BERT's decoder has its prediction head's)
    always_tied  True where transformers ties the head whatever the config says (T5)
    residual_dropout   the field of the residual dropout's probability and its default in the class; it keeps a mask
                 behind the last product of a layer; drops_by_call: its class calls torch.nn.functional.dropout, which
                 TRL's disable_dropout, that looks for torch.nn.Dropout, does not reach
    dropouts     the config's fields of probabilities of dropout that the class sets above 0 where they are not stated
    wide_loss    True where an encoder's loss is taken on logits in fp32 (ModernBERT, EuroBERT)
    trains_cached   True where the decoder fills its cache in training too, unless checkpointed (T5)
    classes      what the classes beside the causal language model call their parts
    counted_only     True where the weights are known and nothing of what is computed with them; routed: then (experts,
                 experts a token) where some of the weights are experts
    encoder_tokens   tokens that the encoder of an encoder-decoder always sees (Whisper's window of sound), or None
    towers       vision and audio encoders before a multimodal model's text
    kept         names of modules that transformers leaves in 16 or 32 bits when it quantises (_keep_in_fp32_modules)
    linear_class the class of the matrices where it is a subclass of torch.nn.Linear
    """

    model_type: str
    embeddings: tuple[Any, ...]
    layers: tuple[Layer, ...]
    final: tuple[Any, ...]
    head: Linear | None
    tied: bool
    vocab: Any
    hidden: Any
    num_layers: Any
    head_extras: tuple[Any, ...] = ()
    has_head: bool = True
    kind: str = "decoder"
    max_positions: int | None = None
    facts: Mapping[str, Any] = NOTHING
    extra_weights: tuple[Weight, ...] = ()
    encoder_embeddings: tuple[Any, ...] = ()
    encoder_final: tuple[Any, ...] = ()
    pooler: tuple[Any, ...] = ()
    beside: tuple[Any, ...] = ()
    buffers: tuple[Weight, ...] = ()
    constants: tuple[Buffer, ...] = ()
    head_name: str = "lm_head"
    head_bias_tied: bool = False
    always_tied: bool = False
    residual_dropout: tuple[str, float] | None = None
    drops_by_call: bool = False
    dropouts: tuple[str, ...] = ()
    wide_loss: bool = False
    trains_cached: bool = False
    classes: Classes = Classes()
    encoder_tokens: Any = None
    counted_only: bool = False
    routed: tuple[Any, Any] | None = None
    towers: tuple[Tower, ...] = ()
    kept: tuple[str, ...] = ()
    linear_class: str = "Linear"

    @property
    def textbook(self) -> bool:
        """Whether it is the transformer in letters, which no library knows."""
        return self.model_type == "symbolic"

    @property
    def prompts_encoder(self) -> bool:
        """Whether a prompt is the encoder's, so that what is generated begins with one token."""
        return self.kind == "encoder-decoder" and self.encoder_tokens is None

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Every attention, a layer's own before the one over the encoder."""
        found = (m for x in self.layers for m in (x.ahead.attention if x.ahead else x.mixer, x.cross))
        return tuple(m for m in found if isinstance(m, Attention))

    @property
    def state_spaces(self) -> tuple[StateSpace, ...]:
        """Every recurrent mixer."""
        return tuple(m for x in self.layers for m in (x.mixer, x.second) if isinstance(m, StateSpace))

    def loose_weights(self) -> list[Weight]:
        """What stands beside the blocks: weights of no block, then the towers'."""
        return [*self.extra_weights, *(w for tower in self.towers for w in tower.weights())]

    def weights(self) -> list[Weight]:
        """The inventory: every unique weight, tied ones once."""
        return list(_inventory(Same(self)))


@lru_cache(maxsize=64)
def _inventory(same: Same[Architecture]) -> tuple[Weight, ...]:
    arch, out = same.it, list[Weight]()
    for part in (*arch.embeddings, *arch.encoder_embeddings):
        out += part.weights()
    for layer in arch.layers:
        out += layer.weights()
    for part in (
        *arch.beside,
        *arch.encoder_final,
        *arch.final,
        *arch.pooler,
        *((arch.head,) if arch.head else ()),
        *arch.head_extras,
    ):
        out += part.weights()
    return (*out, *arch.loose_weights())


__all__ = [
    "CONV1D",
    "EMBEDDING",
    "EXPERT",
    "HEAD",
    "LINEAR",
    "MLP",
    "NORM",
    "OTHER",
    "POSITION",
    "ROUTER",
    "TOKEN_TYPE",
    "Architecture",
    "Attention",
    "Buffer",
    "Classes",
    "Copies",
    "Disentangled",
    "Extra",
    "Indexer",
    "Layer",
    "Linear",
    "Lookup",
    "MoE",
    "NoMixer",
    "Norm",
    "Pooling",
    "SideChain",
    "StateSpace",
    "Streams",
    "Weight",
]  # fmt: skip
