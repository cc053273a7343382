"""data/model/model.json, typed: what a prediction, evaluation and the report need to know of a model."""

from pathlib import Path
from typing import Any, Literal

from mammo.core import files, settings
from mammo.core.errors import UserError
from mammo.core.settings import Canonical

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

NAME = "model.json"


class _Part(BaseModel):
    """Strict, and without numbers that are not finite; keys of a newer version are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


class TrainedOn(_Part):
    """The training split."""

    source: Literal["phantom", "kaggle", "folder"]
    images: int
    patients: int
    cancer: int
    """Images with cancer."""

    @property
    def in_words(self) -> str:
        """The source as people read it; phantoms are never to pass for mammograms."""
        return "phantoms (synthetic images)" if self.source == "phantom" else self.source


class Verdict(_Part):
    """What the audit says of the splits: data/gate.json, carried along by the model and its scores."""

    leaking: bool
    test_images: int = 0
    test_images_of_training_patients: int = 0
    valid_images: int = 0
    valid_images_of_training_patients: int = 0
    patients_in_several_splits: int = 0
    same_image_across_splits: int = 0
    """Pairs of images."""
    sentence: str = ""
    """In words, beginning with LEAKING; empty where there is no leak."""

    @model_serializer(mode="wrap")
    def _only_what_was_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only what was set, so that a verdict without a leak is `{"leaking": false}` wherever it stands."""
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


class Input(_Part):
    """What preprocessing made of an image before the network saw it."""

    size: tuple[int, int]
    """Height and width in pixels."""
    canonical: Canonical

    model_config = ConfigDict(strict=False)  # JSON has lists, not tuples


class Arithmetic(_Part):
    """What decides the last bits of a probability."""

    precision: str
    threads: int
    tensorflow: str
    keras: str
    instructions: str


class Features(_Part):
    """Mean and covariance of the training images' features, and the distance beyond which an image is novel."""

    mean: list[float]
    covariance: list[list[float]]
    limit: float


class ModelInfo(_Part):
    """All of model.json."""

    version: Literal[1] = Field(1, alias="schema")
    network: str
    weights: int
    """Number of weights."""
    epoch: int
    """Whose weights were kept."""
    trained_on: TrainedOn
    audit: Verdict
    flip_at_test: Literal["none", "horizontal", "vertical"]
    """Which mirror image is seen as well, for the mean of both."""
    preprocess: Input
    thresholds: dict[str, float]
    """By rule, locked on validation."""
    arithmetic: Arithmetic
    training_intensity: dict[str, float]
    """`percentile_0` to `percentile_100` of the training images' mean grey levels."""
    training_features: Features
    index: str = ""
    """SHA-256 of data/prepared/index.csv, which holds that of every image; empty in older models."""


def write(model: Path, info: ModelInfo) -> None:
    """Write MODEL/model.json."""
    files.write_json(model / NAME, info.model_dump(by_alias=True))


def read_verdict(gate: Path) -> Verdict:
    """Read data/gate.json.

    Raises:
        UserError: it is missing or malformed.

    """
    return settings.check(Verdict, files.read_json(gate), gate)


def read(model: Path) -> ModelInfo:
    """Read MODEL/model.json.

    Raises:
        UserError: it is missing, or lacks something that a model of this project has.

    """
    content: Any = files.read_json(model / NAME)
    try:
        return ModelInfo.model_validate(content)
    except ValidationError as failure:
        fault = failure.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise UserError(f"{model / NAME} does not describe a model of this project: {where}: {fault['msg']}") from None
