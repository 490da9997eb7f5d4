"""Parts of the adapters' pydantic models: kinds of fields, and complaints that do not repeat what was given."""

import os
from dataclasses import fields
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import Self

from nimbed import CacheConfig
from nimbed.errors import InputError

__all__ = ["CacheChoice", "QuietModel", "TextPath"]

TextPath = Annotated[str, BeforeValidator(lambda p: os.fspath(p) if isinstance(p, os.PathLike) else p)]


def _cache_choice(cache: Any) -> CacheConfig | None:  # noqa: ANN401 (what the user gave)
    if not isinstance(cache, dict):
        return CacheConfig.of(cache)
    known = {field.name for field in fields(CacheConfig) if field.init}
    if not cache.keys() <= known:
        raise InputError(f"cache: a dictionary may have {', '.join(sorted(known))}, and nothing else")
    return CacheConfig(**cache)


CacheChoice = Annotated[
    InstanceOf[CacheConfig] | None,
    BeforeValidator(_cache_choice),
    PlainSerializer(lambda cache: None if cache is None else cache.public()),
]


class QuietModel(BaseModel):
    """A model whose errors name the field and never the value, which may be a secret."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401
        try:
            return handler(data)
        except ValidationError as err:
            error = _without_values(err)
        raise error  # outside of the except: the first error would be its context

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 (pydantic's signature)
        try:
            super().__setattr__(name, value)
        except ValidationError as err:
            error = _without_values(err)
        else:
            return
        raise error


def _without_values(error: ValidationError) -> ValidationError:
    """The same complaint without what was given, which may be a secret: pydantic's errors keep their inputs."""
    lines = [
        InitErrorDetails(
            type=PydanticCustomError(one["type"], "{message}", {"message": one["msg"]}), loc=one["loc"], input=None
        )
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return ValidationError.from_exception_data(error.title, lines, hide_input=True)
