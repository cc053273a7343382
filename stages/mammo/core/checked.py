"""Models that check what users write: unknown keys are errors, and a message names key, value and what is allowed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from mammo.core.errors import UserError
from mammo.core.spelling import hint

from pydantic import BaseModel, ConfigDict, ValidationError

LONGEST_VALUE = 300  # characters of a wrong value in a message


class Settings(BaseModel):
    """Base of every section: unknown keys and values of a wrong type are errors; values are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


AnySettings = TypeVar("AnySettings", bound=BaseModel)


def check(model: type[AnySettings], content: Any, path: Path, above: tuple[str, ...] = ()) -> AnySettings:
    """Validate `content`, found in the file `path` below the keys `above`, against a pydantic model.

    Raises:
        UserError: keys are unknown or missing, or values have the wrong type or are out of range; names all of them.

    """
    try:
        return model.model_validate(content)
    except ValidationError as failure:
        text = "; ".join(_plainly(error, above, model) for error in failure.errors())
        raise UserError(f"{path}: {text}") from None


def _plainly(error: Any, above: tuple[str, ...], model: type[BaseModel]) -> str:
    key = ".".join([*above, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        known = list(_keys(model, above))
        for part in error["loc"][:-1]:
            field = model.model_fields.get(str(part))
            model = (_model_in(field.annotation) if field else None) or model
        kind = "key" if len(error["loc"]) > 1 or above else "section"
        return f"unknown {kind} {key}; {hint(key, known)}allowed are {', '.join(model.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if isinstance(error["input"], dict | BaseModel):  # a whole section: its content says less than the message
        return f"{key + ': ' if key else ''}allowed is {message}"
    return f"{key} is {shortened(repr(error['input']))}; allowed is {message}"


def shortened(text: str) -> str:
    """Return text that fits into a message: at most `LONGEST_VALUE` characters of it."""
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _keys(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[str]:
    """Yield the dotted keys of a model at any depth, sections included."""
    for name, field in model.model_fields.items():
        yield ".".join((*above, name))
        if inner := _model_in(field.annotation):
            yield from _keys(inner, (*above, name))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `Model`, `list[Model]`, `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner))), None)


def merged(values: Any, instead: Mapping[str, Any]) -> Any:
    """Return `values` with those of `instead` in their place, section by section at any depth."""
    if not isinstance(values, dict):
        return values
    result = {**values, **instead}
    for key, inner in instead.items():
        if isinstance(inner, Mapping):
            result[key] = merged(values.get(key, {}), inner)
    return result
