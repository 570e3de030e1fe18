"""Images before the text: how many tokens each becomes, and how many patches its tower sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from estimator.errors import InputError
from estimator.families.towers import ImageGrid
from estimator.models import Model
from estimator.questions.read import DEFAULT_TOKENS
from estimator.records import NamedTuple
from estimator.sizes import size_option

MAX_SIDE = 100_000  # pixels; no image comes near


class Seen(NamedTuple):
    """``number`` images a sequence, each of ``height`` x ``width`` pixels, ``patches`` (and the tower's own tokens) in
    the tower and ``tokens`` in the text; ``pairs``: of patches that attend to each other where windows cut the image.
    """

    number: int
    height: int
    width: int
    patches: int
    tokens: int
    pairs: int


def seen(model: Model, images: Any, image_size: Any) -> Seen | None:
    """The images that ``--images`` and ``--image-size`` ask for, or None. InputError where the model sees none."""
    if images is None:
        if image_size is not None:
            raise InputError("--image-size is of --images: add --images 1")
        return None
    number = int(size_option(None, images, "--images", "images"))
    towers = model.architecture.towers
    tower = next((t for t in towers if t.kind == "vision" and t.grid is not None), None)
    if tower is None or tower.grid is None:
        raise InputError(f"--images: {model.name} sees no images")
    given = None if image_size is None else sides(str(image_size))
    height, width = placed(tower.grid, given, model.name)
    if height < tower.grid.patch[0] or width < tower.grid.patch[1]:
        patch = " x ".join(str(side) for side in tower.grid.patch)
        raise InputError(f"--images: {model.name} cuts images of {height} x {width} pixels into patches of {patch}")
    return Seen(number, height, width, *counts(tower.grid, height, width))


def sides(text: str) -> tuple[int, int]:
    """(height, width) of ``448`` or ``1080x1920``."""
    parts = text.lower().replace("×", "x").split("x")
    try:
        numbers = [int(x) for x in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < n <= MAX_SIDE for n in numbers):
        raise InputError(f"--image-size must be pixels a side or HEIGHTxWIDTH, got {text[:40]!r}")
    return numbers[0], numbers[-1]


def placed(grid: ImageGrid, given: tuple[int, int] | None, name: str) -> tuple[int, int]:
    """(height, width) that the tower gets: its own size, or the image's in whole squares of merged patches."""
    if grid.size is not None:
        return grid.size
    if given is None:
        raise InputError(f"--images: {name} takes images of any size: add --image-size 1024 or 1080x1920")
    steps = tuple(side * grid.merge for side in grid.patch)
    height, width = (max(1, round(n / step)) * step for n, step in zip(given, steps, strict=True))
    return height, width


def counts(grid: ImageGrid, height: int, width: int) -> tuple[int, int, int]:
    """(patches and the tower's own tokens, tokens of the text, pairs within windows) of one image."""
    rows, columns = height // grid.patch[0], width // grid.patch[1]
    merged = (rows // grid.merge) * (columns // grid.merge)
    tokens, side = merged if grid.tokens is None else grid.tokens, grid.window or max(rows, columns)
    pairs = 1
    for n in (rows, columns):  # whole windows, and what is left at the edge
        pairs *= n // side * side**2 + (n % side) ** 2
    return rows * columns + grid.extra, tokens, pairs


def with_images(model: Model, given: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """The options with the images' tokens added to the text's, and the model with a note that says so."""
    out = dict(given)
    found = seen(model, out.get("images"), out.get("image_size"))
    if found is None:
        return model, out
    more = found.number * found.tokens
    text = out.get("seq_len")
    if text is None:
        positions = model.architecture.max_positions
        text = DEFAULT_TOKENS if positions is None else max(1, min(DEFAULT_TOKENS, positions - more))
    text = size_option(model, text, "--seq-len", "seq_len", "length")
    out["seq_len"] = text + more
    each = f"{found.height} x {found.width} pixels and {found.tokens:,} tokens"
    note = f"{found.number} image(s) a sequence of {each} each, beside {int(text):,} tokens of text"
    return replace(model, own_notes=(*model.own_notes, note)), out
