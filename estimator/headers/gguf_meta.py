"""The metadata of a GGUF header under its architecture's prefix, and the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.headers import Header

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h
MAX_VALUE = 10**12  # as estimator.config.MAX_SIZE


class Lacks(Exception):
    """A key that an architecture needs is not there, or is no size."""


class Meta:
    """The metadata of one file under its architecture's prefix, and the shapes of its tensors."""

    def __init__(self, header: Header, arch: str) -> None:
        self.values: Mapping[str, Any] = header.metadata
        self.arch = arch
        self.shapes = {t.name: t.shape for t in header.tensors}

    def raw(self, key: str) -> Any:
        """The value of ``<architecture>.key``, None where it is not there."""
        return self.values.get(f"{self.arch}.{key}")

    def size(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number; one that is the same in every layer where the file lists layers. Lacks where it is none."""
        value = self.raw(key)
        if isinstance(value, list):
            known = {x for x in value if not isinstance(x, list)}
            value = known.pop() if len(known) == 1 and len(value) else None
            if value is None:
                raise Lacks(f"{self.arch}.{key} differs from layer to layer")
        if value is None:
            if default is None:
                raise Lacks(f"{self.arch}.{key} is missing")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_VALUE:
            raise Lacks(f"{self.arch}.{key} is {str(value)[:20]!r}, no size")
        return value

    def optional(self, key: str) -> int | None:
        """A whole number, or None where the key is not there or 0."""
        return self.size(key, 0, least=0) or None

    def layers(self, key: str) -> list[int]:
        """A list of whole numbers, one a layer. Lacks where it is none."""
        value = self.raw(key)
        if not isinstance(value, list) or not all(type(x) is int for x in value):
            raise Lacks(f"{self.arch}.{key} lists no layers")
        return value

    def has(self, tensor: str, unknown: bool = False) -> bool:
        """Whether the file holds a tensor of this name (``blk.0.`` where it begins with a dot).

        unknown: what is taken where no layer's tensors are known, as of a load log.
        """
        if unknown and not self.lists:
            return True
        return (f"blk.0{tensor}" if tensor.startswith(".") else tensor) in self.shapes

    @property
    def lists(self) -> bool:
        """Whether the tensors of layers are known."""
        return any("blk." in name for name in self.shapes)

    def which(self, tensor: str) -> list[int]:
        """The layers that hold a tensor, ``attn_q.weight``."""
        found = (n.split(".", 2) for n in self.shapes if n.startswith("blk.") and n.endswith(f".{tensor}"))
        return sorted(int(p[1]) for p in found if len(p) == 3 and p[1].isdigit() and p[2] == tensor)

    @property
    def vocabulary(self) -> int:
        """Rows of the token table, as its tensor or its key says."""
        shape = self.shapes.get("token_embd.weight", ())
        if len(shape) == 2 and shape[0] > 0:
            return int(shape[0])
        return self.size("vocab_size", int(self.values.get("tokenizer.ggml.tokens.length") or 0) or None)

    @property
    def tied(self) -> bool:
        """Whether the output reuses the token table."""
        return "output.weight" not in self.shapes
