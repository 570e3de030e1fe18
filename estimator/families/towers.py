"""What a vision or audio tower is made of, beside the blocks of :mod:`estimator.families.base`."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from estimator.inventory import CONV, EMBEDDING, OTHER, POSITION, TOKEN_TYPE, Weight
from estimator.records import NamedTuple


class Conv(NamedTuple):
    """A convolution over pixels, frames or samples, whose weight is [d_out, d_in / groups, *kernel].

    rows    outputs for each token that the layers after it see (2 where a stride of 2 follows)
    beside  tokens of the layers that it does not make (a class token)
    steps   inputs of a channel for each output: the strides' product; None where patches do not overlap
    """

    name: str
    d_in: Any
    d_out: Any
    kernel: tuple[Any, ...]
    bias: bool = True
    rows: Any = 1
    groups: Any = 1
    steps: Any = None
    beside: Any = 0

    @property
    def reads(self) -> Any:
        """Numbers that one number of the output is a product over."""
        return self.d_in // self.groups * prod(self.kernel)

    @property
    def inputs(self) -> Any:
        """Numbers that stand at its input for each output position."""
        return self.d_in * (prod(self.kernel) if self.steps is None else self.steps)

    def weights(self, times: Any = 1) -> Iterator[Weight]:
        yield Weight(f"{self.name}.weight", (self.d_out, self.d_in // self.groups, *self.kernel), times, CONV)
        if self.bias:
            yield Weight(f"{self.name}.bias", (self.d_out,), times, CONV)


class Repeated(NamedTuple):
    """``times`` equal layers of a tower that are told by their parts alone (a conformer's)."""

    times: Any
    parts: tuple[Any, ...]

    def weights(self) -> Iterator[Weight]:
        for part in self.parts:
            yield from part.weights(self.times)


class ImageGrid(NamedTuple):
    """How an image becomes tokens.

    size      (height, width) in pixels that every image is resized to; None where the tower takes any size
    patch     (height, width) in pixels of a patch; merge: patches a side that become one token of the text
    extra     tokens that the tower has beside the patches (a class token)
    tokens    tokens of the text an image, where it is not what the merged patches give (a pooled count)
    window    patches a side of the windows that layers with a ``chunk`` attend within, or None
    most      tokens of the text of the largest image that the published preprocessor makes, or None where not known
    films     whether it gives every step in time of a video as many tokens as an image, not the whole of it
    """

    size: tuple[int, int] | None
    patch: tuple[int, int]
    merge: int = 1
    extra: int = 0
    tokens: int | None = None
    window: int | None = None
    most: int | None = None
    films: bool = False


class Tower(NamedTuple):
    """A vision or audio encoder that stands before the text model of a multimodal one, and the projection between.

    kind      "vision" or "audio"
    stem      parts before the layers; layers: groups of identical ones (Layer or Repeated); final: parts after them,
              which see every patch; pooled: parts that see one token an image
    bridge    parts that see the tokens which the text gets
    grid      how an image becomes tokens, or None where the tower takes no images
    copied    True where serving engines run transformers' class of it, which every rank holds whole
    """

    kind: str
    stem: tuple[Any, ...]
    layers: tuple[Any, ...]
    final: tuple[Any, ...] = ()
    bridge: tuple[Any, ...] = ()
    grid: ImageGrid | None = None
    pooled: tuple[Any, ...] = ()
    copied: bool = False

    def weights(self) -> Iterator[Weight]:
        """Every weight of the tower and of the projection. Its tables are none of the language model's."""
        for part in (*self.stem, *self.layers, *self.final, *self.pooled, *self.bridge):
            for w in part.weights():
                yield w._replace(role=OTHER) if w.role in (EMBEDDING, POSITION, TOKEN_TYPE) else w


def walked(tower: Tower) -> bool:
    """Whether the tower's layers are described, so that its work can be counted."""
    return all(hasattr(layer, "mixer") for layer in tower.layers)
