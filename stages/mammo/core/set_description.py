"""Descriptions of data sets, data/sets/NAME.yaml: which table says what of an image, and under which licence."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

from mammo.core import files, settings
from mammo.core.errors import UserError
from mammo.core.settings import Settings
from mammo.core.spelling import hint
from mammo.core.wording import SPLIT_NAMES

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

FOLDER = Path("data/sets")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
SUFFIX = ".yaml"
PROVENANCE = "set.json"
"""Licence and source of a described set, in data/raw and data/prepared."""
FIELD = re.compile(r"\{([^{}]*)\}")
"""A column in a template such as `train_images/{patient_id}/{image_id}.dcm`."""

HeaderName = Literal[
    "age",
    "implant",
    "intent",
    "laterality",
    "manufacturer",
    "model",
    "patient_id",
    "pixel_spacing",
    "series",
    "series_description",
    "sop",
    "study",
    "view",
]
"""What a description may take from a DICOM header; `imaging.headers` names the attributes."""


def _as_text(value: Any) -> Any:
    """Return a number of YAML as it stands in a table; truth values and dates are errors."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"text or a number; write {str(value)!r} in quotes")
    return value


def _one_group(pattern: str) -> str:
    return settings.pattern_of_one_group(pattern) if pattern else pattern


def _regular(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return pattern


def _inside(path: str) -> str:
    """Raise an error for a path that leads out of the folder of the set."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
        raise ValueError("a path below the folder of the set, with forward slashes and without ..")
    return path


Value = Annotated[str, BeforeValidator(_as_text)]
Values = list[Value]
Pattern = Annotated[str, AfterValidator(_one_group)]
Inside = Annotated[str, Field(min_length=1), AfterValidator(_inside)]
Text = Annotated[str, Field(min_length=1)]


class Table(Settings):
    """A table of the set."""

    file: Inside
    """Path below the folder of the set: CSV, TSV or xlsx."""
    sheet: str = ""
    """Sheet of an xlsx file; the first by default."""
    separator: Literal["", ",", ";", "tab", "blanks"] = ""
    """Default: tab for .tsv, otherwise a comma. `blanks`: any number of spaces."""
    columns: list[str] = Field(default_factory=list)
    """Names of the columns of a table without header."""
    rename: dict[str, str] = Field(default_factory=dict)
    """New name of a column, by its name in this table: for tables that name it differently."""
    add: dict[str, Value] = Field(default_factory=dict)
    """Columns that have one value in all rows, e.g. `split: test`."""


class Join(Table):
    """A table whose columns are added to the rows so far."""

    by: Annotated[dict[str, str], Field(min_length=1)]
    """Column of this table, by the column of the rows so far that must equal it."""
    several: Literal["refuse", "keep"] = "refuse"
    """Whether one row may have several partners here; `keep` makes a row of each."""
    unmatched: Literal["refuse", "keep"] = "keep"
    """Whether a row may have no partner here; its cells are then empty."""
    expand: dict[str, dict[Value, Values]] = Field(default_factory=dict)
    """By column of this table: a value that stands for others, e.g. `side: {B: [L, R]}`."""


class Derived(Settings):
    """A new column, taken out of another one."""

    column: Text
    pattern: Pattern
    """Regular expression whose group 1 is the value."""


class Images(Settings):
    """Which files are the images of a row."""

    path: str = ""
    """Template, e.g. `{study_id}/{image_id}.dicom`; `*` stands for anything, if one file fits."""
    match: dict[HeaderName, str] = Field(default_factory=dict)
    """Column that must equal an attribute of the DICOM header, by attribute. Several files may match a row."""
    number: str = ""
    """Column with the number of files that should match a row."""
    other: Annotated[str, AfterValidator(_regular)] = r"(?i)crop|mask"
    """Pattern of the paths and series descriptions of files that are no whole mammogram."""

    @model_validator(mode="after")
    def _one_way(self) -> "Images":
        if bool(self.path) == bool(self.match):
            raise ValueError("either path or match")
        return self


class Source(Settings):
    """Where a value of an image stands: in a column, the DICOM header or the path, or the same for all."""

    column: str = ""
    header: HeaderName | None = None
    path: bool = False
    """Whether it is taken from the path of the image, by `pattern`."""
    constant: str = ""
    pattern: Pattern = ""
    """Regular expression whose group 1 is the value; default: the whole text."""
    pairs: bool = False
    """Whether the numbers 1 and 2, 3 and 4, … are one, as in mini-MIAS."""
    values: dict[Text, Values] = Field(default_factory=dict)
    """How a value is written in the source, by the value."""

    @model_validator(mode="after")
    def _one_source(self) -> "Source":
        if [bool(self.column), self.header is not None, self.path, bool(self.constant)].count(True) != 1:
            raise ValueError("one of column, header, path and constant")
        if self.path and not self.pattern:
            raise ValueError("path with a pattern")
        return self


class Group(Source):
    """A property by which scores may be compared, e.g. density or vendor."""

    bands: list[int] = Field(default_factory=list)
    """Lower limits of bands, ascending, e.g. [50, 60] makes `below 50`, `50 to 59` and `60 and above`."""

    @model_validator(mode="after")
    def _ascending(self) -> "Group":
        if self.bands != sorted(set(self.bands)):
            raise ValueError("bands in ascending order")
        return self


class LabelRule(Settings):
    """Which values of a column mean cancer and which healthy."""

    column: Text
    cancer: Values = Field(default_factory=list)
    healthy: Values = Field(default_factory=list)
    left_out: Values = Field(default_factory=list)
    """Values that are known to mean neither; every other value is left out too, and named."""

    @model_validator(mode="after")
    def _disjoint(self) -> "LabelRule":
        listed = [*self.cancer, *self.healthy, *self.left_out]
        if twice := sorted({value for value in listed if listed.count(value) > 1}):
            raise ValueError(f"each value in one list; {twice[0]!r} is in several")
        return self


class Label(LabelRule):
    """The label of an image."""

    where_empty: LabelRule | None = None
    """Rule for rows whose cell in `column` is empty."""
    several: Literal["any", "first", "refuse"] = "refuse"
    """Several rows of one image: cancer if any says so, the first row, or an error where they differ."""


class Filter(Settings):
    """Rows to keep or to drop by a column or header."""

    column: str = ""
    header: HeaderName | None = None
    keep: Values = Field(default_factory=list)
    drop: Values = Field(default_factory=list)
    matches: Annotated[str, AfterValidator(_regular)] = ""
    """Regular expression of the values to keep."""

    @model_validator(mode="after")
    def _one_way(self) -> "Filter":
        if (
            bool(self.column) == (self.header is not None)
            or [
                bool(self.keep),
                bool(self.drop),
                bool(self.matches),
            ].count(True)
            != 1
        ):
            raise ValueError("column or header, with one of keep, drop and matches")
        return self


class Provenance(Settings):
    """Where a data set comes from and what its licence allows; travels with the data and the model."""

    name: str
    """Name of its description."""
    title: Text
    address: Text
    licence: Text
    citation: Text
    weights: Literal["public", "private"]
    """`private`: the licence forbids the release of what was trained on the set."""


class SetDescription(Settings):
    """Content of data/sets/NAME.yaml."""

    title: Text
    address: Text
    licence: Text
    citation: Text
    weights: Literal["public", "private"] = "public"
    notes: list[str] = Field(default_factory=list)
    """What a reader of scores on this set must know."""
    layout: Literal["tables", "tree"] = "tables"
    """`tree`: no table; the images lie in {train,valid,test}/{0,1}/, and `data.patient` finds the patient."""
    missing: Values = Field(default_factory=list)
    """Cells that mean an empty one, e.g. `.`."""
    rows: list[Table] = Field(default_factory=list)
    """The tables whose rows are images or findings, one below the other."""
    joins: list[Join] = Field(default_factory=list)
    derive: dict[str, Derived] = Field(default_factory=dict)
    filters: list[Filter] = Field(default_factory=list)
    images: Images | None = None
    patient: Source | None = None
    exam: Source | None = None
    laterality: Source | None = None
    view: Source | None = None
    label: Label | None = None
    split: Source | None = None
    groups: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], Group] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> "SetDescription":
        if self.layout == "tree":
            if self.rows or self.images or self.label:
                raise ValueError("no rows, images or label beside layout: tree")
        elif not (self.rows and self.images and self.label and self.patient):
            raise ValueError("the keys rows, images, patient and label")
        if self.split and (wrong := set(self.split.values) - set(SPLIT_NAMES)):
            raise ValueError(f"split.values with the keys {', '.join(SPLIT_NAMES)}, not {min(wrong)}")
        return self

    @property
    def sources(self) -> dict[str, Source]:
        """The properties of an image but for its label, by the key of the description."""
        single = {"patient": self.patient, "exam": self.exam, "laterality": self.laterality, "view": self.view}
        single["split"] = self.split
        groups = {f"groups.{name}": group for name, group in self.groups.items()}
        return {key: source for key, source in single.items() if source} | groups

    @property
    def columns(self) -> dict[str, str]:
        """Every column that is used, with the key that uses it."""
        return {column: key for key, column in reversed(list(self._used())) if column}

    def _used(self) -> Iterator[tuple[str, str]]:
        if self.images:
            yield from (("images.path", column) for column in FIELD.findall(self.images.path))
            yield from ((f"images.match.{name}", column) for name, column in self.images.match.items())
            yield "images.number", self.images.number
        yield from ((f"{key}.column", source.column) for key, source in self.sources.items())
        if self.label:
            yield "label.column", self.label.column
            yield "label.where_empty.column", self.label.where_empty.column if self.label.where_empty else ""
        yield from ((f"filters.{place}.column", one.column) for place, one in enumerate(self.filters))
        yield from ((f"derive.{name}.column", one.column) for name, one in self.derive.items())
        yield from ((f"joins.{place}.by", column) for place, join in enumerate(self.joins) for column in join.by)

    def provenance(self, name: str) -> Provenance:
        """Return what travels with the data; `name` is that of the description."""
        own = {key: getattr(self, key) for key in Provenance.model_fields if key != "name"}
        return Provenance(name=name, **own)


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the described sets, sorted."""
    return sorted(path.stem for path in folder.glob(f"*{SUFFIX}") if NAME.fullmatch(path.stem))


def read(name: str, folder: Path = FOLDER) -> SetDescription:
    """Read and check the description `name`.

    Raises:
        UserError: there is none of this name, or it has faults, all of which are named.

    """
    known = names(folder)
    if name not in known:
        described = ", ".join(known) or "none"
        raise UserError(f"there is no data set {name!r} in {folder}; {hint(name, known)}described are {described}")
    path = folder / f"{name}{SUFFIX}"
    from mammo.core import yaml_files  # loads PyYAML

    content = yaml_files.read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the keys {', '.join(SetDescription.model_fields)}")
    return settings.check(SetDescription, content, path)


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write FOLDER/set.json."""
    files.write_json(folder / PROVENANCE, provenance.model_dump())


def read_provenance(folder: Path) -> Provenance | None:
    """Read FOLDER/set.json; without the file the set is not described.

    Raises:
        UserError: the file is malformed.

    """
    path = folder / PROVENANCE
    return settings.check(Provenance, files.read_json(path), path) if path.is_file() else None


HEADER_NAMES: tuple[str, ...] = get_args(HeaderName)
