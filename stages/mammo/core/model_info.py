"""Model info (data/model/model.json): the properties of a model that prediction, evaluation and report need."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from mammo.core import files, settings
from mammo.core.errors import UserError
from mammo.core.set_description import Provenance
from mammo.core.settings import Canonical, ForProcessing, Precision, Threads

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

NAME = "model.json"
Pixels = Annotated[int, Field(ge=1, le=4096)]
NEAREST = 1e-6
"""Logits treat probabilities nearer to 0 or 1 as if they were at this distance."""


class _Part(BaseModel):
    """Base of all parts: strict types, finite numbers; unknown keys (of a newer version) are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True, defer_build=True)


class TrainedOn(_Part):
    """The training split."""

    source: Literal["phantom", "kaggle", "folder", "set"]
    images: int
    patients: int
    cancer: int
    """Number of images with cancer."""
    data_set: Provenance | None = None
    """Licence and source of a described set; None for any other, and in older models."""

    @property
    def in_words(self) -> str:
        """The source in words; phantoms are clearly marked as synthetic."""
        words = {"phantom": "phantoms (synthetic images)", "kaggle": "a Kaggle set", "folder": "own images"}
        if self.source == "set":
            return self.data_set.title if self.data_set else "a described set"
        return words[self.source]

    @model_serializer(mode="wrap")
    def _without_an_unknown_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialise `data_set` only if it is known, so that other models keep their bytes."""
        return {name: value for name, value in dump(self).items() if name != "data_set" or value is not None}


class Verdict(_Part):
    """Result of the audit of the splits: data/gate.json, copied into the model info and the metrics."""

    leaking: bool
    test_images: int = 0
    test_images_of_training_patients: int = 0
    valid_images: int = 0
    valid_images_of_training_patients: int = 0
    patients_in_several_splits: int = 0
    same_image_across_splits: int = 0
    """Number of pairs of images."""
    sentence: str = ""
    """Description that begins with LEAKING or CANNOT BE CHECKED; empty if every patient is known and none leaks."""
    unchecked: bool = False
    """Whether images have no patient, so that leakage cannot be ruled out."""
    images_in_all_splits: int = 0
    images_without_patient: int = 0

    @property
    def rank(self) -> int:
        """How bad the verdict is: 0 no leak, 1 cannot be checked, 2 leaking."""
        return 2 if self.leaking else int(self.unchecked)

    @property
    def heading(self) -> str:
        """The verdict in capitals, for titles; empty if there is no leak."""
        return ("", "CANNOT BE CHECKED", "LEAKING")[self.rank]

    @model_serializer(mode="wrap")
    def _only_what_was_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialise only the fields that were set, so that a verdict without a leak is `{"leaking": false}`."""
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


class Input(_Part):
    """Preprocessing of the images that the network was trained on."""

    size: tuple[Pixels, Pixels]
    """Height and width in pixels."""
    canonical: Canonical
    for_processing: ForProcessing = "refuse"

    model_config = ConfigDict(strict=False)  # JSON has lists, not tuples


class Arithmetic(_Part):
    """Everything that affects the last bits of a probability."""

    precision: Precision
    threads: Threads
    tensorflow: str
    keras: str
    instructions: str
    litert: str = ""
    """Version of LiteRT, which computes the probabilities; empty in older models, where TensorFlow does."""


class Features(_Part):
    """Mean and covariance of the training images' features; an image at a distance above `limit` is novel."""

    mean: Annotated[list[float], Field(min_length=1)]
    covariance: list[list[float]]
    limit: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _of_one_length(self) -> "Features":
        if {len(self.mean)} != {len(self.covariance), *map(len, self.covariance)}:
            raise ValueError("mean and covariance differ in length")
        return self


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Return ln(p / (1 - p)) of probabilities, which are first clipped to [1e-6, 1 - 1e-6]; from -13.8 to 13.8."""
    clipped = np.clip(probabilities, NEAREST, 1 - NEAREST)
    return np.log(clipped) - np.log1p(-clipped)


class Recalibration(_Part):
    """Logistic recalibration, learned on validation by `scoring.calibration.learned_recalibration`."""

    intercept: float
    slope: Annotated[float, Field(ge=0)]
    """Not negative, so that the order of the images stays."""

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities: the logistic function of intercept + slope * logit."""
        moved = self.intercept + self.slope * logit(probabilities)
        return np.exp(-np.logaddexp(0, -moved))  # scipy.special has it too, but takes long to load


class ModelInfo(_Part):
    """Content of model.json."""

    version: Literal[1] = Field(1, alias="schema")
    network: str
    weights: int
    """Number of weights."""
    epoch: int
    """Epoch whose weights were kept."""
    trained_on: TrainedOn
    audit: Verdict
    flip_at_test: Literal["none", "horizontal", "vertical"]
    """Axis of the flip; the probability is the mean over image and flipped image."""
    preprocess: Input
    thresholds: dict[str, Annotated[float, Field(ge=0, le=math.nextafter(1, 2))]]
    """Threshold of each rule, chosen on validation; just above 1 where nothing is called cancer."""
    arithmetic: Arithmetic
    training_intensity: dict[str, float]
    """Percentiles of the training images' mean grey levels, `percentile_0` to `percentile_100`."""
    training_features: Features
    recalibration: Recalibration | None = None
    """None in models of older commits."""
    index: str = ""
    """SHA-256 of data/prepared/index.csv, which lists the SHA-256 of every image; empty in older models."""
    exported: str = ""
    """SHA-256 of model.tflite, which computes the probabilities; empty in older models, where model.keras does."""


def refuse_if_private(info: ModelInfo, command: str) -> None:
    """Refuse to publish weights that were trained on a set whose licence forbids it.

    Args:
        info: of the model.
        command: what would publish it, e.g. `mammo export`.

    Raises:
        UserError: the description of the set says `weights: private`.

    """
    data_set = info.trained_on.data_set
    if data_set and data_set.weights == "private":
        raise UserError(
            f"{command} refused: the model was trained on {data_set.title}, whose licence forbids the release of "
            f"weights ({data_set.licence}); data/sets/{data_set.name}.yaml says weights: private"
        )


def write(model: Path, info: ModelInfo) -> None:
    """Write MODEL/model.json."""
    files.write_json(model / NAME, info.model_dump(by_alias=True))


def read_verdict(gate: Path) -> Verdict:
    """Read data/gate.json.

    Raises:
        UserError: the file is missing or malformed.

    """
    return settings.check(Verdict, files.read_json(gate), gate)


def read(model: Path) -> ModelInfo:
    """Read MODEL/model.json.

    Raises:
        UserError: the file is missing or is not a valid model info.

    """
    content: Any = files.read_json(model / NAME)
    try:
        return ModelInfo.model_validate(content)
    except ValidationError as failure:
        fault = failure.errors()[0]
        where = ascii(".".join(map(str, fault["loc"])) or "it")[1:-1]
        raise UserError(f"{model / NAME} does not describe a model of this project: {where}: {fault['msg']}") from None
