"""The smallest blocks of a model: matrices, norms, tables, loose weights, buffers."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from estimator.inventory import CONV1D, EMBEDDING, LINEAR, NORM, OTHER, Weight
from estimator.records import NamedTuple

# what tensor parallelism cuts of a matrix, and so exchanges around it: estimator.parallel.divided
COLUMN, ROW = "column", "row"
WHOLE_OUTPUT, WHOLE_INPUT = "column, gathered", "row, of a whole input"  # of projections that are sliced afterwards
REJOINED = "whole, its parts put together"  # MLA's narrow keys and values: transformers' MlaKvAProjParallel


class Linear(NamedTuple):
    """A matrix product: ``name`` is the module's, e.g. ``model.layers.{i}.self_attn.q_proj``.

    conv1d: transformers' Conv1D, whose weight is [in, out]. role: LINEAR, HEAD or ROUTER. subclass: the module is a
    class of its own that inherits from torch.nn.Linear (Falcon's), which libraries that look for the plain one pass by.
    across: COLUMN, ROW, WHOLE_OUTPUT or WHOLE_INPUT where tensor parallelism cut it, REJOINED, else "".
    """

    name: str
    d_in: Any
    d_out: Any
    bias: bool = False
    conv1d: bool = False
    role: str = LINEAR
    subclass: bool = False
    across: str = ""

    def weights(self, times: Any = 1) -> Iterator[Weight]:
        role = CONV1D if self.conv1d and self.role == LINEAR else self.role
        yield Weight(
            f"{self.name}.weight",
            (self.d_in, self.d_out) if self.conv1d else (self.d_out, self.d_in),
            times,
            role,
        )
        if self.bias:
            yield Weight(f"{self.name}.bias", (self.d_out,), times, role)


class Norm(NamedTuple):
    """A normalisation. kind: ``rms`` (fp32 copy, then weight), ``rms_late`` (the weight in fp32 too: gpt-oss, OLMo 2),
    ``rms_plus1`` (Gemma), ``layer`` (torch's LayerNorm), ``layer_plus1`` (the same
    with 1 + weight: Nemotron), ``layer_fp32`` (a LayerNorm written out in fp32: Cohere),
    ``rms_gated`` (Mamba 2, Qwen3-Next), ``rms_t5`` (only the variance in fp32: T5), ``none`` (OLMo 1: no weights).
    ``shape``: the weight's, where it is not (width,). ``copies``: as many side by side, each with a weight (StableLM:
    one a head).
    """

    name: str
    width: Any
    kind: str = "rms"
    bias: bool = False
    affine: bool = True
    shape: tuple[Any, ...] | None = None
    copies: Any = 1

    def weights(self, times: Any = 1) -> Iterator[Weight]:
        if self.affine:
            times = times * self.copies if self.copies != 1 else times
            yield Weight(f"{self.name}.weight", self.shape or (self.width,), times, NORM)
            if self.bias:
                yield Weight(f"{self.name}.bias", self.shape or (self.width,), times, NORM)


class Lookup(NamedTuple):
    """An embedding table. role: EMBEDDING, POSITION or TOKEN_TYPE. scaled: the module holds a buffer that it multiplies
    by (Gemma). across: ROW where tensor parallelism cut it, else ""."""

    name: str
    rows: Any
    width: Any
    role: str = EMBEDDING
    scaled: bool = False
    across: str = ""

    def weights(self, times: Any = 1) -> Iterator[Weight]:
        yield Weight(f"{self.name}.weight", (self.rows, self.width), times, self.role)


class Extra(NamedTuple):
    """A weight that belongs to no module of the kinds above: sinks, A_log, D, conv1d, relative_attention_bias."""

    name: str
    shape: tuple[Any, ...]
    role: str = OTHER

    def weights(self, times: Any = 1) -> Iterator[Weight]:
        yield Weight(self.name, self.shape, times, self.role)


class Buffer(NamedTuple):
    """A tensor that a running model keeps beside its weights and does not store: a causal mask, a table of sines.

    shape, and width in bytes of an element; ``times`` of them.
    """

    what: str
    shape: tuple[Any, ...]
    width: int
    times: Any = 1

    @property
    def bytes(self) -> Any:
        """Bytes of one."""
        return prod(self.shape) * self.width


class Indexer(NamedTuple):
    """What chooses the tokens that DeepSeek's sparse attention looks at: ``heads`` narrow queries out of the queries'
    latent, one key of ``head_dim`` numbers a token, which is cached, and a weight a head. MiniMax M3 chooses blocks of
    keys by the greatest score: no weights, a norm of the queries, which come from the stream. ``pool``
    tokens are pooled into one key by ``pooling``'s places and gates (GLM-5.3-Flash). ``top``: keys a query looks at.
    """

    queries: Linear
    keys: Linear
    norm: Norm
    weigh: Linear | None
    heads: Any
    head_dim: Any
    query_norm: Norm | None = None
    pool: Any = 1
    pooling: tuple[Extra, ...] = ()
    top: Any = 0

    @property
    def cached(self) -> Any:
        """Numbers of a token in its cache: the key, with pools its gates and a flag too."""
        return self.head_dim if not self.pooling else 2 * self.head_dim + 1

    def parts(self) -> tuple[Any, ...]:
        found = (self.queries, self.keys, self.query_norm, self.norm, self.weigh, *self.pooling)
        return tuple(x for x in found if x is not None)


class Pooling(NamedTuple):
    """What pools every ``ratio`` tokens into one key of ``width`` numbers, which is the value too: a softmax over their
    gates (and a bias of their places) weighs them.

    overlap   True where a window takes part of the one before too: ``linears`` (values, gates) are twice as wide then
    chooser   what chooses among pooled keys by narrower ones: a pool, queries and a weight a head; or None
    """

    linears: tuple[Linear, Linear]
    bias: Extra
    norm: Norm
    ratio: Any
    width: Any
    overlap: bool = False
    chooser: PoolIndex | None = None

    def parts(self) -> tuple[Any, ...]:
        return (self.bias, *self.linears, self.norm, *(self.chooser.parts() if self.chooser else ()))


class PoolIndex(NamedTuple):
    """The choice among pooled keys: ``heads`` narrow queries out of the queries' latent score narrow pooled keys."""

    pool: Pooling
    queries: Linear
    weigh: Linear
    heads: Any

    def parts(self) -> tuple[Any, ...]:
        return (*self.pool.parts(), self.queries, self.weigh)


class Streams(NamedTuple):
    """Hyper-connections: ``count`` residual streams are weighed into what a block reads, and what it puts out is added
    to each, the streams themselves mixed (arXiv 2409.19606; Sinkhorn-Knopp as in DeepSeek-V4).

    extras    the matrix over all streams [values, count * d], its bias and scales; kept in fp32
    rounds    of Sinkhorn-Knopp; 0: the streams are only weighed into one (at the end of the stack)
    """

    extras: tuple[Extra, ...]
    count: Any
    d: Any
    rounds: int = 0

    def parts(self) -> tuple[Any, ...]:
        return self.extras

    def weights(self, times: Any = 1) -> Iterator[Weight]:
        for extra in self.extras:
            yield from extra.weights(times)


class Classes(NamedTuple):
    """How a decoder's other classes differ from transformers' generic ones.

    tokens    the name of a token classifier's matrix; bare: what ForQuestionAnswering calls the bare model, or "" for
              what the language model calls it; answers: True where it has an output a label, not two
    """

    tokens: str = "score"
    bare: str = ""
    answers: bool = False
