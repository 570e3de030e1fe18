"""Presets checked by pydantic: a user's own file of an accelerator, and every preset of the project in its tests."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from estimator.errors import InputError
from estimator.schemas import GpuSpec, Part, PositiveInt, Text, gpu_of


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


def model_of(part: type[Part]) -> type[BaseModel]:
    """The pydantic model of a table: its fields, with the models of the tables within."""
    hints = get_type_hints(part, include_extras=True)
    fields = {name: (_with_models(hint), getattr(part, name, ...)) for name, hint in hints.items()}
    made: type[BaseModel] = create_model(part.__name__, __base__=_Part, **fields)  # type: ignore[call-overload]
    return made


def _with_models(hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Part):
        return model_of(hint)
    if any(isinstance(x, type) and issubclass(x, Part) for x in get_args(hint)):  # Part | None, tuple[Part, ...]
        inner = tuple(_with_models(x) for x in get_args(hint))
        return tuple[inner] if Ellipsis in inner else inner[0] | None  # type: ignore[valid-type]
    return hint


def checked_gpu(data: dict[str, Any], shown: str) -> GpuSpec:
    """An accelerator from a file's contents; InputError naming the field, what was wrong and what was got."""
    try:
        checked = model_of(GpuSpec).model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = "no such field" if first["type"] == "extra_forbidden" else first["msg"]
        raise InputError(f"{shown}: {where}: {said}, got {str(first['input'])[:40]}") from None
    spec = gpu_of(checked.model_dump(exclude_unset=True))
    for dtype in spec.compute.verified if spec.compute else ():
        if getattr(spec.compute, dtype) is None:
            raise InputError(f"{shown}: compute.verified names {dtype}, which has no figure")
    return spec
