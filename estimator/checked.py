"""Presets checked by pydantic: a user's own file of an accelerator, and every preset of the project in its tests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from estimator.errors import InputError
from estimator.schemas import GpuSpec, PositiveInt, Text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Expectation(_Part):
    """A model's counts, which the tests hold its family to."""

    total_params: PositiveInt
    active_params: PositiveInt
    embedding_params: int = Field(ge=0)
    tied: bool


class ModelSpec(_Part):
    """One model: ``presets/models/<id>.json``. ``class``: the transformers class that the counts are of.

    storage: what the checkpoint's config.json says of its dtype and quantisation, where it is quantised
    """

    id: Text
    source: Text
    verified: bool
    verification: Text
    class_: Text = Field(alias="class")
    repo: Text
    expect: Expectation
    config: dict[str, Any]
    storage: dict[str, Any] = Field(default_factory=dict)


def checked_gpu(data: dict[str, Any], shown: str) -> GpuSpec:
    """An accelerator from a file's contents; InputError naming the field, what was wrong and what was got."""
    try:
        spec = TypeAdapter(GpuSpec).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = "no such field" if first["type"] == "unexpected_keyword_argument" else first["msg"]
        raise InputError(f"{shown}: {where}: {said}, got {str(first['input'])[:40]}") from None
    for dtype in spec.compute.verified if spec.compute else ():
        if getattr(spec.compute, dtype) is None:
            raise InputError(f"{shown}: compute.verified names {dtype}, which has no figure")
    return spec
