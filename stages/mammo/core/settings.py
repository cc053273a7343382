"""Every setting of params.yaml, typed and checked; an error is one line that names key, value and what is allowed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from mammo.core.errors import UserError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

PARAMS = Path("params.yaml")
KAGGLE_HANDLE = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/versions/[1-9][0-9]*")
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[int, Field(ge=32, le=4096)]
Share = Annotated[float, Field(gt=0, lt=0.5)]
ThresholdRule = Literal["balanced_accuracy", "half", "specificity_90", "specificity_95", "sensitivity_90"]
"""Rules by which a threshold is chosen on validation; `scoring.thresholds` has what each means."""
Network = Literal[
    "baseline",
    "compact",
    "DenseNet121",
    "EfficientNetLite0",
    "EfficientNetV2B0",
    "MobileNetV3Small",
    "ResNet50V2",
]
"""Networks that `learning.networks.build` knows."""


class Settings(BaseModel):
    """Base of every section: unknown keys and values of another type are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


AnySettings = TypeVar("AnySettings", bound=BaseModel)


def _pinned(handle: str) -> str:
    """Refuse a Kaggle handle without a version: what it names would change whenever its owner uploads."""
    if not KAGGLE_HANDLE.fullmatch(handle):
        raise ValueError(
            "owner/name/versions/N with N from 1 (without a version the same handle would be other images tomorrow)"
        )
    return handle


def _pattern_of_patient(pattern: str) -> str:
    """Refuse a pattern that does not say which part of a file name is the patient."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    if groups != 1:
        raise ValueError(f"a regular expression with one group, the patient (it has {groups})")
    return pattern


class Plant(Settings):
    """How many of each defect are planted. 0 plants none and leaves every byte as it is without planting.

    Each defect hits patients of its own: no patient shows two, so that what an audit finds can be counted. `shortcut`
    alone concerns all images of class 1.
    """

    leaked_patients: Count = 0
    """Patients delivered in train of whom one image lies in test."""
    duplicates: Count = 0
    """Files of train that are delivered once more, byte for byte, in test under a patient number of their own."""
    near_duplicates: Count = 0
    """The same with images that were saved as JPEG at quality 60 and darkened by 5 % in between."""
    contradictions: Count = 0
    """Healthy patients one of whose files is delivered in class 1 of the same split as well."""
    inverted: Count = 0
    """Images, of as many patients, with black and white exchanged, as a MONOCHROME1 scan saved as it was."""
    burned_in_text: Count = 0
    """Images, of as many patients, with side and view written beside the breast, e.g. `R MLO`."""
    shortcut: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Exposure of class 1 raised by this share of 40 %: a label that intensity gives away."""


class Phantoms(Settings):
    """A set of phantoms. An image depends on its patient and not on how many others there are."""

    patients: Annotated[int, Field(ge=8, le=100_000)]
    """A healthy patient gives both breasts in CC and MLO, one with cancer the affected breast in both."""
    seed: Count
    """Decides everything that is drawn."""
    size: Annotated[int, Field(ge=64, le=2048)]
    """Height and width of an image, pixels."""
    cancer_share: Annotated[float, Field(ge=0.1, le=0.9)]
    """Share of patients with cancer."""
    lesions: bool
    """False draws class 1 exactly as class 0: nothing is left to learn, and every mask is empty."""
    spread: Annotated[float, Field(ge=0, le=30)]
    """Masses lie within ± this of one place, mm, in both directions: sets the difficulty."""
    occult: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Share of cancers that look benign: nobody can find them, which holds the ROC AUC below about 1 - occult / 2."""
    plant: Plant = Plant()
    """Defects."""


class Data(Settings):
    """Section `data` of params.yaml."""

    source: Literal["phantom", "kaggle", "folder"]
    kaggle: Annotated[str, AfterValidator(_pinned)]
    folder: Annotated[str, Field(min_length=1)]
    patient: Annotated[str, AfterValidator(_pattern_of_patient)]
    phantom: Phantoms


class Split(Settings):
    """Section `split` of params.yaml."""

    by: Literal["patient", "folder"]
    seed: int
    valid: Share
    test: Share


class Canonical(Settings):
    """Section `preprocess.canonical` of params.yaml: which steps are taken, in this order."""

    right_inverted: bool = False
    """Inverted images are negated."""
    blacken_outside: bool = False
    """Everything but the breast becomes black: text, markers, borders, lines."""
    crop: bool = False
    """To the breast, which then fills the image as far as its aspect lets it; the rest is padded, black."""
    chest_wall_left: bool = False
    """A breast whose chest wall is on the right is mirrored."""

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self.right_inverted or self.blacken_outside or self.crop or self.chest_wall_left


class Preprocess(Settings):
    """Section `preprocess` of params.yaml."""

    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    on_unreadable: Literal["stop", "skip"]
    canonical: Canonical


class Audit(Settings):
    """Section `audit` of params.yaml."""

    on_leak: Literal["stop", "warn"]
    seed: int


class Augment(Settings):
    """Section `augment` of params.yaml; 0 everywhere leaves the images as they are."""

    rotation_range: Annotated[float, Field(ge=0, le=180)]
    """Degrees, drawn from [-r, r]."""
    width_shift_range: Fraction
    """Share of the width, drawn from [-w, w]."""
    height_shift_range: Fraction
    """Share of the height, drawn from [-h, h]."""
    zoom_range: Fraction
    """Both zooms are drawn independently from [1 - z, 1 + z]; below 1 enlarges."""
    horizontal_flip: bool
    """Left and right are exchanged in half of the draws."""
    vertical_flip: bool
    """The same of above and below."""
    intensity_range: Fraction
    """Contrast is raised to the power e^u (gamma) and brightness multiplied by 1 + v / 2, u and v from [-i, i]."""
    erase: Fraction
    """Share of images in which a rectangle becomes black, a tenth to a third of either side."""


class Train(Settings):
    """Section `train` of params.yaml."""

    network: Network
    weights: str
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
    precision: Literal["float32", "bfloat16"]
    threads: Annotated[int, Field(ge=1, le=256)]

    @field_validator("average")
    @classmethod
    def _of_the_epochs(cls, average: int, info: ValidationInfo) -> int:
        if average > info.data.get("epochs", average):
            raise ValueError(f"at most train.epochs, {info.data['epochs']}")
        return average


class Evaluate(Settings):
    """Section `evaluate` of params.yaml."""

    threshold: ThresholdRule
    seed: int
    resamples: Annotated[int, Field(ge=200, le=100_000)]


class Params(Settings):
    """All of params.yaml."""

    data: Data
    split: Split
    preprocess: Preprocess
    audit: Audit
    augment: Augment
    train: Train
    evaluate: Evaluate


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads it: 1e-3 is a number (YAML 1.2; PyYAML alone takes it for text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_yaml(path: Path) -> Any:
    """Read a YAML file, unchecked.

    Raises:
        UserError: it is missing or not YAML.

    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: run from the top folder of the project")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def check(model: type[AnySettings], content: Any, path: Path, above: tuple[str, ...] = ()) -> AnySettings:
    """Return `content`, the section at the keys `above` of the file `path`, as the settings of a model.

    Raises:
        UserError: a key is unknown or missing, a value has the wrong type or is out of range: each is named.

    """
    try:
        return model.model_validate(content)
    except ValidationError as failure:
        text = "; ".join(_plainly(error, above, model) for error in failure.errors())
        raise UserError(f"{path}: {text}") from None


def _plainly(error: Any, above: tuple[str, ...], model: type[BaseModel]) -> str:
    key = ".".join([*above, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        for part in error["loc"][:-1]:
            model = model.model_fields[part].annotation  # type: ignore[assignment]
        kind = "key" if len(error["loc"]) > 1 or above else "section"
        return f"unknown {kind} {key}; allowed are {', '.join(model.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{key} is {error['input']!r}; allowed is {message}"


def read(path: Path = PARAMS, instead: Mapping[str, Any] | None = None) -> Params:
    """Read and check all of params.yaml.

    Args:
        path: the file.
        instead: by section, values that take the place of the file's.

    Raises:
        UserError: the file or a section is missing, a key is unknown, a value has the wrong type or is out of range.

    """
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the sections {', '.join(Params.model_fields)}")
    return check(Params, _merged(content, instead or {}), path)


def _merged(values: Any, instead: Mapping[str, Any]) -> Any:
    if not isinstance(values, dict):
        return values
    merged = {**values, **instead}
    for key, inner in instead.items():
        if isinstance(inner, Mapping):
            merged[key] = _merged(values.get(key, {}), inner)
    return merged
