"""The products of images: a tower run as an encoder of its own, and the projection of what it gives to the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from estimator.families.base import Architecture, Linear
from estimator.families.common_tower import encoder_of
from estimator.families.towers import Conv, Tower, walked
from estimator.peft.base import Adapter
from estimator.work import product as p
from estimator.work.product import Product
from estimator.work.run import products
from estimator.work.workload import PassSizes


def tower_products(arch: Architecture, work: PassSizes, images: Any, adapter: Adapter | None) -> list[Product]:
    """Every product that the images before the text need (``images``: estimator.questions.images.Seen)."""
    return [
        q for tower in arch.towers if tower.kind == "vision" and walked(tower)
        for q in _products(tower, work, images, adapter)
    ]  # fmt: skip


def _products(tower: Tower, work: PassSizes, images: Any, adapter: Adapter | None) -> Iterator[Product]:
    inside = replace(work, b=work.b * images.number, s=images.patches, context=0, last=False)
    for q in products(encoder_of(tower), inside, adapter):
        cut = q.part == p.ATTENTION and "chunked" in q.layer
        yield q if not cut else _windows(q, images.pairs)
    training = work.mode == "training" and adapter is None
    for part in tower.bridge:
        if isinstance(part, Linear | Conv):
            reads = part.d_in if isinstance(part, Linear) else part.reads
            yield Product(
                part.name, p.EMBEDDING, inside.b * images.tokens, reads, part.d_out, left=training, right=training,
                weight=reads * part.d_out,
            )  # fmt: skip


def _windows(q: Product, pairs: Any) -> Product:
    """A product of attention in windows of several sizes, as one over all their pairs."""
    return q._replace(m=1, n=pairs) if q.pairs_of == "n" else q._replace(m=1, k=pairs)
