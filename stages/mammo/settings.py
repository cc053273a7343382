"""params.yaml read into typed, checked settings; every error is one line that names key, value and what is allowed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mammo.errors import UserError

PARAMS = Path("params.yaml")
SECTIONS = ("data", "split", "preprocess", "audit", "augment", "train", "evaluate")


class Settings(BaseModel):
    """Base of every section: unknown keys and values of another type are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


AnySettings = TypeVar("AnySettings", bound=Settings)


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads it: 1e-3 is a number (YAML 1.2; PyYAML alone takes it for text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _params(path: Path) -> dict[str, Any]:
    params = loaded(path)
    if not isinstance(params, dict):
        raise UserError(f"{path} must hold the sections {', '.join(SECTIONS)}")
    for section in params:
        if section not in SECTIONS:
            raise UserError(f"{path}: unknown section {section!r}; allowed are {', '.join(SECTIONS)}")
    return params


def _plainly(error: Any, section: str, model: type[BaseModel]) -> str:
    key = ".".join([section, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        for part in error["loc"][:-1]:
            model = model.model_fields[part].annotation  # type: ignore[assignment]
        return f"unknown key {key}; allowed are {', '.join(model.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{key} is {error['input']!r}; allowed is {message}"


def read(
    section: str, model: type[AnySettings], path: Path = PARAMS, instead: Mapping[str, Any] | None = None
) -> AnySettings:
    """The checked settings of one section of params.yaml.

    Args:
        section: name of the section, e.g. `"train"`.
        model: the settings model of the stage that asks.
        path: the file.
        instead: values that take the place of the file's.

    Raises:
        UserError: the file or section is missing, a key is unknown, a value has the wrong type or is out of range.

    """
    params = _params(path)
    if section not in params:
        raise UserError(f"{path}: the section {section!r} is missing")
    try:
        return model.model_validate(_merged(params[section], instead or {}))
    except ValidationError as failure:
        text = "; ".join(_plainly(error, section, model) for error in failure.errors())
        raise UserError(f"{path}: {text}") from None


def _merged(values: Any, instead: Mapping[str, Any]) -> Any:
    if not isinstance(values, dict):
        return values
    merged = {**values, **instead}
    for key, inner in instead.items():
        if isinstance(inner, Mapping):
            merged[key] = _merged(values.get(key, {}), inner)
    return merged


def value(section: str, key: str, path: Path = PARAMS) -> Any:
    """One value that another stage owns and has checked.

    Raises:
        UserError: it is missing.

    """
    try:
        return _params(path)[section][key]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: {section}.{key} is missing") from error


def loaded(path: Path) -> Any:
    """A YAML file, unchecked.

    Raises:
        UserError: it is missing or no YAML.

    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: run from the top folder of the project")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def everything(path: Path = PARAMS) -> dict[str, Any]:
    """All sections as they stand, each checked by the stages that read it: for showing, not for use.

    Raises:
        UserError: the file or a section is missing, or a section is unknown.

    """
    params = _params(path)
    for section in SECTIONS:
        if section not in params:
            raise UserError(f"{path}: the section {section!r} is missing")
    return {section: params[section] for section in SECTIONS}
