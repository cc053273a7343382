"""The settings of params.yaml, typed and checked; an error names the key, its value and the allowed values."""

import re
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from mammo.core.checked import Settings, check, merged
from mammo.core.errors import UserError
from mammo.core.rules import ThresholdRule

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

PARAMS = Path("params.yaml")
KAGGLE_HANDLE = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/versions/[1-9][0-9]*")
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[int, Field(ge=32, le=4096)]
Share = Annotated[float, Field(gt=0, lt=0.5)]
Precision = Literal["float32", "bfloat16"]
ForProcessing = Literal["refuse", "transform"]
"""What is done with raw detector data (DICOM's FOR PROCESSING): refuse the file, or transform it for display."""
Threads = Annotated[int, Field(ge=1, le=256)]
Network = Literal[
    "baseline",
    "compact",
    "DenseNet121",
    "EfficientNetLite0",
    "EfficientNetV2B0",
    "MobileNetV3Small",
    "ResNet50V2",
]
"""Networks that `learning.networks.build` can build."""


def _pinned(handle: str) -> str:
    """Raise an error for a Kaggle handle without a version: its content would change with each upload."""
    if not KAGGLE_HANDLE.fullmatch(handle):
        raise ValueError(
            "owner/name/versions/N with N from 1 (without a version the same handle would be other images tomorrow)"
        )
    return handle


def _folder(path: str) -> str:
    """Raise an error for a path that DVC or the stages could not take literally."""
    if path.startswith("~"):
        raise ValueError("a path without ~, which nothing here expands (./~ is a folder of that name)")
    if "://" in path:
        raise ValueError("a folder of this machine, no address: DVC would ask the network for it")
    if any(unicodedata.category(char) == "Cc" for char in path):
        raise ValueError("a path without control characters and line breaks")
    return path


def _pseudonyms(value: Any) -> Any:
    """Raise an error for anything but true, false and auto."""
    if not isinstance(value, bool) and value != "auto":
        raise ValueError("auto (true for images of a folder), true or false")
    return value


def pattern_of_one_group(pattern: str, meaning: str = "the value") -> str:
    """Return the pattern.

    Raises:
        ValueError: it is no regular expression, or does not have exactly one group.

    """
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from error
    if groups != 1:
        raise ValueError(f"a regular expression with one group, {meaning} (it has {groups})")
    return pattern


def _pattern_of_patient(pattern: str) -> str:
    return pattern_of_one_group(pattern, "the patient")


class Plant(Settings):
    """Number of planted defects of each kind; 0 plants none and changes no byte.

    No patient has two defects, so that the findings of the audit can be counted. The exceptions are `shortcut`, which
    affects all images of class 1, and `metadata`.
    """

    leaked_patients: Count = 0
    """Training patients with one image in the test split."""
    duplicates: Count = 0
    """Training files with an exact copy in the test split under a new patient number."""
    near_duplicates: Count = 0
    """The same, with a copy that was saved as JPEG at quality 60 and darkened by 5 %."""
    contradictions: Count = 0
    """Healthy patients with a copy of one file in class 1 of the same split."""
    inverted: Count = 0
    """Inverted images (one per patient), like MONOCHROME1 scans saved without conversion."""
    burned_in_text: Count = 0
    """Images (one per patient) with side and view written beside the breast, e.g. `R MLO`."""
    shortcut: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Increase of the exposure of class 1, as a share of 40 %: intensity then reveals the label."""
    metadata: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the patients with cancer whose files come from another source: higher patient numbers, one breast only,
    larger, blurred, inverted, with burned-in text, and saved as JPEG."""


class Phantoms(Settings):
    """A set of phantoms. The images of a patient do not depend on the number of patients."""

    patients: Annotated[int, Field(ge=8, le=100_000)]
    """Number of patients; a healthy one has both breasts in CC and MLO."""
    seed: Count
    """Seed of all random numbers."""
    size: Annotated[int, Field(ge=64, le=2048)]
    """Height and width of the images in pixels."""
    cancer_share: Annotated[float, Field(ge=0.1, le=0.9)]
    """Share of patients with cancer."""
    lesions: bool
    """If false, class 1 is drawn exactly like class 0: there is nothing to learn, and every mask is empty."""
    spread: Annotated[float, Field(ge=0, le=30)]
    """Greatest distance of a mass from the common position, mm, in each direction: sets the difficulty."""
    occult: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Share of cancers that look benign: they limit the ROC AUC to about 1 - occult / 2."""
    both_breasts: bool = False
    """Whether patients with cancer have both breasts too, the other one healthy; false: only the affected breast."""
    plant: Plant = Plant()
    """Planted defects."""


class Data(Settings):
    """Section `data` of params.yaml."""

    source: Literal["phantom", "kaggle", "folder", "set"]
    kaggle: Annotated[str, AfterValidator(_pinned)]
    set: Annotated[str, Field(min_length=1)] = "none"
    """Name of a description in data/sets, for the source `set`."""
    folder: Annotated[str, Field(min_length=1), AfterValidator(_folder)]
    in_place: bool = False
    """Whether the images of a described set stay in `folder`; otherwise they are copied to data/raw."""
    on_missing: Literal["stop", "leave_out"] = "stop"
    """What happens where the table of a described set names files that are not there or cannot be read."""
    patient: Annotated[str, AfterValidator(_pattern_of_patient)]
    pseudonyms: Annotated[Any, AfterValidator(_pseudonyms)] = "auto"
    """Whether tables, pictures and pages name images and patients by pseudonyms; auto: those of own folders."""
    exclude: list[str] = Field(default_factory=list)
    """Images to leave out, named as in data/prepared/index.csv."""
    phantom: Phantoms

    @model_validator(mode="after")
    def _set_is_named(self) -> "Data":
        if self.source == "set" and self.set == "none":
            raise ValueError("data.set with the name of a data set (`mammo set list` shows them), for data.source: set")
        if self.in_place and self.source != "set":
            raise ValueError(f"data.in_place: false with data.source: {self.source}; only described sets stay in place")
        return self

    @property
    def uses_pseudonyms(self) -> bool:
        """Whether images and patients get pseudonyms."""
        return self.source == "folder" if self.pseudonyms == "auto" else self.pseudonyms


class Split(Settings):
    """Section `split` of params.yaml."""

    by: Literal["patient", "folder"]
    seed: int
    valid: Share
    test: Share


class Canonical(Settings):
    """Section `preprocess.canonical` of params.yaml: the steps, applied in this order."""

    right_inverted: bool = False
    """Negate inverted images."""
    blacken_outside: bool = False
    """Blacken everything outside the breast: text, markers, borders, lines."""
    crop: bool = False
    """Crop to the breast, keep its aspect ratio, and pad with black."""
    chest_wall_left: bool = False
    """Mirror images whose chest wall is on the right."""

    @property
    def any(self) -> bool:
        """Whether any step is enabled."""
        return self.right_inverted or self.blacken_outside or self.crop or self.chest_wall_left


class Preprocess(Settings):
    """Section `preprocess` of params.yaml."""

    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    on_unreadable: Literal["stop", "skip"]
    canonical: Canonical
    for_processing: ForProcessing = "refuse"


class Audit(Settings):
    """Section `audit` of params.yaml."""

    on_leak: Literal["stop", "warn"]
    seed: int
    on_unknown_patients: Literal["stop", "warn"] = "stop"
    """Like `on_leak`, where leakage cannot be checked because images have no patient."""


class Augment(Settings):
    """Section `augment` of params.yaml; 0 everywhere leaves the images unchanged."""

    rotation_range: Annotated[float, Field(ge=0, le=180)]
    """Angle in degrees, drawn from [-r, r]."""
    width_shift_range: Fraction
    """Shift as a share of the width, drawn from [-w, w]."""
    height_shift_range: Fraction
    """Shift as a share of the height, drawn from [-h, h]."""
    zoom_range: Fraction
    """Zoom of height and of width, each drawn independently from [1 - z, 1 + z]; below 1 enlarges."""
    horizontal_flip: bool
    """Flip half of the images horizontally."""
    vertical_flip: bool
    """Flip half of the images vertically."""
    intensity_range: Fraction
    """Apply a gamma of e^u and multiply brightness by 1 + v / 2, with u and v drawn from [-i, i]."""
    erase: Fraction
    """Share of images with a blackened rectangle whose sides are a tenth to a third of those of the image."""


def _in_their_folder(weights: str) -> str:
    """Raise an error for a path that leads out of data/weights: DVC would not notice a change of that file."""
    path = PurePosixPath(weights)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in weights or "\\" in weights:
        raise ValueError("none, imagenet, or the name of a file in data/weights, which DVC watches")
    return weights


SHARED = ("seed", "seeds", "members", "flip_at_test", "precision", "threads", "preprocess", "size", "augment")
"""Settings that all networks of an ensemble have in common."""


class Train(Settings):
    """Section `train` of params.yaml."""

    network: Network
    weights: Annotated[str, AfterValidator(_in_their_folder)]
    frozen: bool
    seed: int
    epochs: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    schedule: Literal["constant", "cosine"]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    label_smoothing: Fraction
    average: Count
    flip_at_test: Literal["none", "horizontal", "vertical"]
    class_weight: Literal["balanced", "none"]
    precision: Precision
    threads: Threads
    maps: list[Annotated[int, Field(ge=1, le=5)]] = Field(default_factory=list)
    """Stages of EfficientNetLite0 whose maps are pooled; all if empty."""
    thawed: Annotated[int, Field(ge=0, le=15)] = 0
    """Number of last blocks of a frozen network that are trained too."""
    depth_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a block relative to the block after it."""
    head: Literal["trained", "logistic"] = "trained"
    """How the last layer is found: by training, or by logistic regression on the features of a frozen network."""
    seeds: list[Count] = Field(default_factory=list)
    """Seeds of an ensemble, which are used instead of `seed`."""
    members: list[dict[str, Any]] = Field(default_factory=list)
    """Networks of an ensemble: the settings of this section that each has otherwise."""

    @property
    def trainings(self) -> list["Train"]:
        """The settings of each network: every member with every seed."""
        alone = self.model_dump() | {"seeds": [], "members": []}
        return [
            Train.model_validate(alone | member | {"seed": seed})
            for member in self.members or [{}]
            for seed in self.seeds or [self.seed]
        ]

    @model_validator(mode="after")
    def _members_are_allowed(self) -> "Train":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds that differ: the same seed gives the same network again")
        for number, member in enumerate(self.members, 1):
            if shared := sorted(set(member) & set(SHARED)):
                raise ValueError(f"members without {shared[0]} (number {number}), which is the same for all of them")
        if self.members or self.seeds:
            try:
                _ = self.trainings
            except ValidationError as failure:
                error = failure.errors()[0]
                key = ".".join(str(part) for part in error["loc"])
                raise ValueError(f"members of known settings; of one of them {key}: {error['msg']}") from None
        return self

    @field_validator("average")
    @classmethod
    def _of_the_epochs(cls, average: int, info: ValidationInfo) -> int:
        if average > info.data.get("epochs", average):
            raise ValueError(f"at most train.epochs, {info.data['epochs']}")
        return average


def _prevalence(value: Any) -> Any:
    """Raise an error for anything but `none` or a share."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "none" and not (number and 0 < value < 1):
        raise ValueError("none, or a number between 0 and 1")
    return value


class Evaluate(Settings):
    """Section `evaluate` of params.yaml."""

    threshold: ThresholdRule
    seed: int
    resamples: Annotated[int, Field(ge=200, le=100_000)]
    prevalence: Annotated[Any, AfterValidator(_prevalence)] = "none"
    """Share of images with cancer at which predictive values are computed; `none`: they are not."""
    unit: Literal["image", "breast", "exam"] = "image"
    """What is one case of the headline scores and curves."""
    case_pictures: Literal["phantoms", "all", "none"] = "phantoms"
    """Test images that the explorer of the report shows."""


def _named(sets: dict[str, str]) -> dict[str, str]:
    for name in sets:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
            raise ValueError(f"names of letters, digits, '.', '-' and '_' (not {name!r})")
    return sets


with warnings.catch_warnings():  # pydantic's own `validate` is deprecated; as a section's name it is the clearest
    warnings.simplefilter("ignore")

    class Params(Settings):
        """Content of params.yaml."""

        data: Data
        split: Split
        preprocess: Preprocess
        audit: Audit
        augment: Augment
        train: Train
        evaluate: Evaluate
        validate: Annotated[dict[str, Annotated[str, Field(min_length=1)]], AfterValidator(_named)] = Field(
            default_factory=dict
        )  # type: ignore[assignment]
        """Folder of each external set, by its name."""


def read(path: Path = PARAMS, instead: Mapping[str, Any] | None = None) -> Params:
    """Read and check all of params.yaml.

    Args:
        path: the file.
        instead: values by section that override those of the file.

    Raises:
        UserError: the file or a section is missing, a key is unknown, a value has the wrong type or is out of range.

    """
    from mammo.core import yaml_files  # loads PyYAML, which `mammo predict` does not need

    content = yaml_files.read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the sections {', '.join(Params.model_fields)}")
    return check(Params, merged(content, instead or {}), path)
