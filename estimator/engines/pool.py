"""Blocks of a paged cache: what a layer's page takes, how layers are grouped, how many tokens and requests fit.

Layers of one kind share one table of blocks; where kinds differ (full, sliding, chunked, recurrent) each group of
equally many layers has a table of its own over the same pool. Source: vLLM v1/core/kv_cache_utils.py and
single_type_kv_cache_manager.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from estimator.engines.asked import ServerAsked
from estimator.engines.lettered import of_layers
from estimator.families.base import Attention, Layer, StateSpace
from estimator.ops import ceil_div
from estimator.records import NamedTuple, dataclass
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE

FULL, SLIDING, CHUNKED, STATE = "full", "sliding", "chunked", "state"
FP32 = 4


def _times(most: Any, own: Any) -> int:
    """How many times the tokens of the widest kind's page a page of a kind of ``own`` bytes a token holds."""
    most, own = int(value_of(most)), int(value_of(own or 0))
    return most // own if own and most % own == 0 else 1


class LayerKind(NamedTuple):
    """What decides how many blocks a layer keeps: its kind and its window or chunk in tokens."""

    name: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool of pages on one rank.

    page      bytes of a page of one layer; tokens: tokens that it holds
    size      layers of a group: a block is this many pages; tables: groups of each kind, and how many times the tokens
              its pages hold: a layer that keeps less of a token has longer blocks (vLLM v1/core/kv_cache_utils.py,
              unify_kv_cache_spec_page_size, 0.13.0 to 0.30.0)
    blocks    in the pool
    state_blocks   blocks that a recurrent state takes a request (2 where prefixes are cached)
    dealt    ranks over which the tokens of a sequence are dealt: each holds one in so many
    beside   bytes that a draft model keeps in every block
    rest     bytes of the pool for tokens, where recurrent states take a part of it
    """

    page: Any
    tokens: int
    size: Any
    tables: tuple[tuple[LayerKind, int, int], ...]
    blocks: Any
    step: int
    state_blocks: int = 1
    dealt: int = 1
    beside: int = 0
    rest: Any = None

    @property
    def groups(self) -> int:
        return sum(n for _, n, _ in self.tables)

    @property
    def block_bytes(self) -> Any:
        """Bytes of a block over all layers of its group."""
        return self.page * self.size + self.beside

    def request(self, length: int, steady: bool = False) -> int:
        """Blocks of a request of ``length`` tokens: as it is admitted, or ``steady``, while it decodes."""
        return sum(n * self._blocks(kind, self.tokens * times, length, steady) for kind, n, times in self.tables)

    def _blocks(self, kind: LayerKind, tokens: int, length: int, steady: bool) -> int:
        step = 1 if steady else self.step
        if kind.name == STATE:
            return 1 if steady else self.state_blocks
        if kind.name == SLIDING:
            return int(ceil_div(min(kind.size - 1 + step, length), tokens)) + 1
        if kind.name == CHUNKED:
            return int(ceil_div(min(kind.size + step, length), tokens))
        return int(ceil_div(ceil_div(length, self.dealt), tokens))

    def concurrency(self, length: int, steady: bool = False) -> Any:
        """Requests of ``length`` tokens at once."""
        return self.blocks / self.request(length, steady)

    def longest(self, most: int) -> int:
        """The longest request that the pool holds, at most ``most`` tokens."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.request(middle) <= self.blocks else (low, middle - 1)
        return low


def kind_of(one: Layer, windows: bool = True) -> LayerKind | None:
    """The kind of a layer, None for one that keeps nothing or reads another's cache.

    windows: whether windows bound what is kept.
    """
    mixer = one.mixer
    if isinstance(mixer, StateSpace):
        return LayerKind(STATE)
    if not isinstance(mixer, Attention) or not mixer.causal or mixer.reuses:
        return None
    if not windows:
        return LayerKind(FULL)
    if mixer.window is not None:
        return LayerKind(SLIDING, int(value_of(mixer.window)))
    return LayerKind(CHUNKED, int(value_of(mixer.chunk))) if mixer.chunk is not None else LayerKind(FULL)


def alike_layers(asked: ServerAsked, layers: Iterable[Layer]) -> list[tuple[Layer, Any]]:
    """The layers that differ, and how many there are of each."""
    found: dict[int, list[Layer]] = {}
    for one in layers:
        found.setdefault(id(one), []).append(one)
    return [(same[0], of_layers(asked, len(same))) for same in found.values()]


def rank_token_bytes(asked: ServerAsked, layers: Iterable[Layer], scales: bool = True) -> Any:
    """Bytes that all layers of a rank keep of a token, windows or not."""
    return sum((n * token_bytes(asked, a, scales) for a, n in cached(asked, layers)), start=0)


def cached(asked: ServerAsked, layers: Iterable[Layer]) -> list[tuple[Attention, Any]]:
    """The attentions that keep keys and values, and how many layers have each."""
    kept = ((x.mixer, n) for x, n in alike_layers(asked, layers) if kind_of(x) is not None)
    return [(a, n) for a, n in kept if isinstance(a, Attention)]


def rank_heads(asked: ServerAsked, a: Attention) -> Any:
    """Key and value heads of a rank: at least one."""
    return max(1, ceil_div(a.kv_heads, asked.tensor))


def token_bytes(asked: ServerAsked, a: Attention, scales: bool = True) -> Any:
    """Bytes that one layer keeps of a token on one rank: keys and values of its heads, or a latent, which is whole on
    every rank.

    A sparse latent in fp8 is 512 codes, 4 fp32 scales and 64 bf16 rotary numbers (656 bytes); its indexer keeps a key
    of 128 codes and a scale (vLLM's fp8_ds_mla). ``scales``: False where an engine keeps codes alone.
    """
    if a.mla is not None:
        rank, rope = a.mla["kv_rank"], a.mla["rope"]
        indexer = indexer_bytes(asked)
        if asked.kv_fp8 and indexer and scales:
            return rank + rank // 128 * FP32 + rope * 2 + indexer
        return (rank + rope) * asked.kv_bits // BITS_PER_BYTE + indexer
    v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    return rank_heads(asked, a) * (a.head_dim + v) * asked.kv_bits // BITS_PER_BYTE


def indexer_bytes(asked: ServerAsked) -> int:
    """Bytes a token and layer of a sparse attention's indexer: a key in fp8 and its scale; 0 without one."""
    raw = asked.model.config.raw if asked.model.config else {}
    width = raw.get("index_head_dim")
    return width + FP32 if isinstance(width, int) and width > 0 else 0


def state_bytes(asked: ServerAsked, s: StateSpace) -> int:
    """Bytes of a recurrent layer's state on one rank: the state, and the last inputs of its convolution."""
    t, wide = asked.tensor, _state_width(asked, s)
    sizes: dict[str, int] = {k: int(value_of(v)) for k, v in s.sizes.items() if isinstance(value_of(v), int)}
    if s.kind == "gated_delta":
        numbers = sizes["value_heads"] // t * sizes["key_dim"] * sizes["value_dim"]
    else:
        numbers = int(value_of(s.inner)) // t * int(value_of(s.state))
    conv = int(value_of(s.conv_width)) // t * (int(value_of(s.conv_kernel)) - 1)
    return numbers * wide + conv * asked.width


# fields of a config that name the state's type, and since when vLLM reads them (model_executor/models/config.py of
# 0.13.0, not 0.11.0; a start of 0.16.1); srt/configs/mamba_utils.py of SGLang 0.5.9 reads the second, and takes fp32
STATE_TYPES: tuple[tuple[str, tuple[int, ...]], ...] = (("mamba_ssm_cache_dtype", (0, 13)), ("mamba_ssm_dtype", (0,)))
STATE_WIDTHS = {"float32": FP32, "bfloat16": 2, "float16": 2}


def _state_width(asked: ServerAsked, s: StateSpace) -> int:
    """Bytes of a number of the state: as the config says, else of an activation (layers/mamba/mamba_utils.py of vLLM
    0.11.0 to 0.19.0, whose channel-wise delta rule alone keeps fp32)."""
    raw = asked.model.config.raw if asked.model.config else {}
    text = raw.get("text_config")
    fields = text if isinstance(text, dict) else raw
    apart = asked.engine == "sglang"
    for name, since in STATE_TYPES[1:] if apart else STATE_TYPES:
        said = STATE_WIDTHS.get(str(fields.get(name)))
        if said is not None and asked.version >= since:
            return said
    return FP32 if apart or s.kind == "channel_delta" else asked.width


def pool_of(asked: ServerAsked, layers: Iterable[Layer], pool: Any, block: int, step: int, *, windows: bool = True,
            prefixes: bool = False, scales: bool = True, uneven: Fraction = Fraction(1),
            draft: int = 0) -> Pool:  # fmt: skip
    """The pool of ``pool`` bytes over these layers of one rank, in blocks of ``block`` tokens.

    step: tokens of an engine's step, which a window keeps beside it; windows: whether windows bound what is kept;
    prefixes: whether prefixes are cached (a recurrent layer then keeps two states); uneven: kinds in a ratio below this
    are grouped by the more numerous one; draft: bytes that a draft model keeps of a token.
    """
    counts: dict[LayerKind, int] = {}
    tokens: dict[LayerKind, Any] = {}
    state = 0
    for one in layers:
        kind = kind_of(one, windows)
        if kind is None:
            continue
        counts[kind] = counts.get(kind, 0) + 1
        if isinstance(one.mixer, StateSpace):
            state = max(state, state_bytes(asked, one.mixer))
        elif isinstance(one.mixer, Attention):
            tokens[kind] = max(tokens.get(kind, 0), token_bytes(asked, one.mixer, scales))
    token: Any = max(tokens.values(), default=0)
    if state and token:
        block = max(block, 16 * ceil_div(state, 16 * int(token)))
    page = block * token if token else state
    fewest, most = min(counts.values()), max(counts.values())
    size = most if most < uneven * fewest else fewest
    tables = tuple((kind, ceil_div(n, size), _times(token, tokens.get(kind))) for kind, n in counts.items())
    layers_of = of_layers(asked, size)
    blocks = max(0, pool) // (page * layers_of + block * draft)
    return Pool(page, block, layers_of, tables, blocks, step, 2 if prefixes else 1, asked.dealt, block * draft)

