"""The header of a ``.gguf`` file: its key-value pairs and its list of tensors, never its data.

Read here rather than by the ``gguf`` package, which maps the whole file, turns every token of the vocabulary into an
object and trusts every length it reads. Source: the format description in ggml's docs/gguf.md; types and block sizes
from llama.cpp's gguf-py/gguf/constants.py (GGML_QUANT_SIZES).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from estimator.dtypes import GGML_TYPES, gguf_format
from estimator.errors import InputError
from estimator.headers import Header, Tensor, regular_file

MAX_HEADER = 64_000_000  # a vocabulary of 256k tokens with its merges takes about 10 MB
MAX_PAIRS = 100_000
MAX_TENSORS = 1_000_000
KEEP_ITEMS = 1024  # longer arrays (vocabularies) are skipped; their length is kept as ``<key>.length``
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


class _Reader:
    """Reads forward, refusing every length that reaches past the end of the file."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.file, self.path, self.left = file, path, min(size, MAX_HEADER)

    def take(self, size: int) -> bytes:
        self.claim(size)
        data = self.file.read(size)
        if len(data) != size:
            raise InputError(f"{self.path}: truncated inside its header")
        return data

    def skip(self, size: int) -> None:
        self.claim(size)
        self.file.seek(size, 1)

    def claim(self, size: int) -> None:
        if size > self.left:
            raise InputError(f"{self.path}: the header claims {size:,} more bytes, but only {self.left:,} follow; truncated or damaged")
        self.left -= size

    def number(self, kind: int) -> Any:
        code = _SCALARS[kind]
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def string(self) -> str:
        return self.take(self.number(10)).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """A value of this type; arrays longer than KEEP_ITEMS come back as their length only."""
        if kind in _SCALARS:
            return self.number(kind)
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or depth > 2:
            raise InputError(f"{self.path}: unknown value type {kind} in its header")
        item, count = self.number(4), self.number(10)
        if item in _SCALARS and count > KEEP_ITEMS:
            self.skip(count * struct.calcsize(_SCALARS[item]))
            return _Length(count)
        self.claim_items(count)
        if item == _STRING and count > KEEP_ITEMS:
            for _ in range(count):
                self.skip(self.number(10))
            return _Length(count)
        return [self.value(item, depth + 1) for _ in range(count)]

    def claim_items(self, count: int) -> None:
        """An array of ``count`` items needs at least that many bytes."""
        if count > self.left:
            raise InputError(f"{self.path}: the header claims {count:,} items, but only {self.left:,} bytes follow; damaged")


class _Length(int):
    """The length of an array whose items were skipped."""


def read_file(path: Path) -> Header:
    """The header of one file. InputError where it is truncated, of an unknown version or claims more than there is."""
    size = regular_file(path, "a .gguf file")
    try:
        with path.open("rb") as file:
            return _read(_Reader(file, path, size), path, size)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _read(r: _Reader, path: Path, size: int) -> Header:
    if size < 24 or r.take(4) != b"GGUF":
        raise InputError(f"{path}: not a GGUF file")
    version = r.number(4)
    if version not in (2, 3):
        raise InputError(f"{path}: GGUF version {version} is not known; 2 and 3 are (big-endian files are not)")
    tensors, pairs = r.number(10), r.number(10)
    for what, count, most in (("tensors", tensors, MAX_TENSORS), ("key-value pairs", pairs, MAX_PAIRS)):
        if count > most or count > r.left:
            raise InputError(f"{path}: claims {count:,} {what}; the header is damaged")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = r.string()
        value = r.value(r.number(4))
        metadata[f"{key}.length" if isinstance(value, _Length) else key] = int(value) if isinstance(value, _Length) else value
    found = [_tensor(r, path) for _ in range(tensors)]
    _check_room(path, found, metadata, r.file.tell(), size)
    return Header(str(path), "gguf", tuple(t for t, _ in found), metadata)


def _tensor(r: _Reader, path: Path) -> tuple[Tensor, int]:
    """A tensor and its offset. GGUF lists dimensions innermost first; shapes here are outermost first, as in torch."""
    name, dims = r.string(), r.number(4)
    where = f"{path}: tensor {name[:80]!r}"
    if dims > 8:
        raise InputError(f"{where}: claims {dims} dimensions; the header is damaged")
    shape = tuple(r.number(10) for _ in range(dims))[::-1]
    kind, offset = r.number(4), r.number(10)
    if kind not in GGML_TYPES:
        raise InputError(f"{where}: type {kind} is not known to this version")
    stored, elements = gguf_format(kind), prod(shape)
    if elements >= 2**63 or (shape and shape[-1] % stored.block):
        raise InputError(f"{where}: shape {list(shape)} does not divide into blocks of {stored.block}")
    return Tensor(name, stored.name, shape, elements, stored.bytes(elements)), offset


def _check_room(path: Path, found: list[tuple[Tensor, int]], metadata: dict[str, Any], end: int, size: int) -> None:
    """Every tensor's data lies inside the file."""
    align = metadata.get("general.alignment", 32)
    align = align if isinstance(align, int) and 0 < align <= 2**20 else 32
    start = -(-end // align) * align
    for tensor, offset in found:
        if start + offset + tensor.bytes > size:
            raise InputError(
                f"{path}: tensor {tensor.name[:80]!r} claims bytes up to {start + offset + tensor.bytes:,}, but the file has {size:,}; truncated"
            )


Getter = Callable[[str], Any]

# GGUF architecture -> transformers model_type, where llama.cpp's loader and the class compute the same
_MODEL_TYPES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe",
    "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "phi3": "phi3", "gpt2": "gpt2", "mistral": "mistral",
    "starcoder2": "starcoder2", "stablelm": "stablelm", "olmo": "olmo", "olmo2": "olmo2", "olmoe": "olmoe", "gpt-oss": "gpt_oss",
    "granite": "granite", "granitemoe": "granitemoe", "command-r": "cohere", "cohere2": "cohere2", "mamba": "mamba",
    "gptneox": "gpt_neox", "smollm3": "smollm3",
}  # fmt: skip
# key after "<architecture>." -> config field
_FIELDS = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "context_length": "max_position_embeddings", "vocab_size": "vocab_size",
    "attention.sliding_window": "sliding_window", "expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size", "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "rope.dimension_count": "_rope_dim", "ssm.conv_kernel": "conv_kernel", "ssm.inner_size": "_inner_size",
    "ssm.state_size": "state_size", "ssm.time_step_rank": "time_step_rank",
}  # fmt: skip
_RENAMED = {
    "gpt2": {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "max_position_embeddings": "n_positions", "intermediate_size": "n_inner"},
    "mixtral": {"num_experts": "num_local_experts"},
    "granitemoe": {"num_experts": "num_local_experts"},
    "gpt_oss": {"num_experts": "num_local_experts"},
}  # fmt: skip
_ONE_EXPERT_WIDTH = {"mixtral", "olmoe", "granitemoe", "gpt_oss"}  # classes whose intermediate_size is an expert's


def to_config(header: Header) -> tuple[dict[str, Any] | None, list[str]]:
    """A config.json-like mapping from a GGUF header, with notes of what was inferred; None where it has no counterpart."""
    meta = header.metadata
    arch = str(meta.get("general.architecture", ""))
    if arch not in _MODEL_TYPES:
        return None, [f"{header.path}: GGUF architecture {arch[:40]!r} has no counterpart here; only its tensors are counted"]
    config = {field: meta[f"{arch}.{key}"] for key, field in _FIELDS.items() if f"{arch}.{key}" in meta}
    shapes = {t.name: t.shape for t in header.tensors}
    kind = _MODEL_TYPES[arch]
    if arch == "llama" and config.get("num_experts"):
        kind = "mixtral"
    config = {name: value for name, value in config.items() if not (isinstance(value, list) and not value)}
    for name, value in config.items():
        if isinstance(value, list):
            if len(set(value)) != 1:
                return None, [f"{header.path}: {name} differs from layer to layer; only its tensors are counted"]
            config[name] = value[0]
    _from_tensors(config, kind, shapes)
    for old, new in _RENAMED.get(kind, {}).items():
        if old in config:
            config[new] = config.pop(old)
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    return {"model_type": kind, **config}, [f"config derived from the GGUF metadata of architecture {arch!r}"]


def _from_tensors(config: dict[str, Any], kind: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """What the tensors themselves say: vocabulary, tied head, biases, which width is an expert's."""
    if "token_embd.weight" in shapes:
        config["vocab_size"] = shapes["token_embd.weight"][0]
    config["tie_word_embeddings"] = "output.weight" not in shapes
    if kind in ("llama", "mistral", "granite", "qwen3", "qwen3_moe", "olmo2"):
        config["attention_bias"] = "blk.0.attn_q.bias" in shapes
    if kind in ("llama", "granite"):
        config["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    if kind in _ONE_EXPERT_WIDTH and "moe_intermediate_size" in config:
        config["intermediate_size"] = config.pop("moe_intermediate_size")
    if kind in ("gpt_neox", "stablelm", "phi3") and config.get("head_dim") is None and config.get("_rope_dim"):
        width = config["hidden_size"] // max(1, config["num_attention_heads"])
        config["partial_rotary_factor"] = config["_rope_dim"] / max(1, width)
    if kind == "mamba" and config.get("_inner_size"):
        config["expand"] = max(1, config["_inner_size"] // config["hidden_size"])
        config["intermediate_size"] = config["_inner_size"]
