"""The table of predictions, one row per image: written by evaluate and cross-validation, read by `mammo compare`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core import files, tables
from mammo.core.dataset import Dataset
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.wording import counted

import numpy as np


class Prediction(NamedTuple):
    """Prediction for one image: a row of predictions.csv."""

    image: str
    patient: str
    """Identifier of the patient; the name of the image if unknown."""
    label: int
    """0 healthy, 1 cancer."""
    probability: float
    """Probability of cancer, 0 to 1."""
    predicted: int | None
    """Class at the model's threshold, 0 or 1; None if unknown."""
    calibrated: float | None = None
    """Recalibrated probability, 0 to 1; the threshold does not apply to it. None if the model has no recalibration."""
    seeds: int | None = None
    """Number of trainings with different seeds whose mean the probability is; None if unknown, or one of evaluate."""
    breast: str | None = None
    """Breast that the image shows, L or R, or B for both; None if unknown. Tables of others may name breasts freely."""
    exam: str | None = None
    """Examination of the patient; None if unknown."""


COLUMNS = Prediction._fields
OPTIONAL = ("predicted", "calibrated", "seeds", "breast", "exam")
"""Columns that are not written if no row has a value."""
REQUIRED = ("image", "patient", "label", "probability", "predicted")
"""Columns that a table of this project must have."""
DECISIONS = ("label", "predicted")
"""Columns that hold a class."""
DIGITS = 12  # of a digest


@dataclass(frozen=True)
class PredictedSplit:
    """The test images and their predictions."""

    data: Dataset
    positions: np.ndarray
    """(n,) positions of the test images in `data`."""
    probabilities: np.ndarray
    """(n,) probabilities of cancer."""
    info: ModelInfo
    threshold: float
    unit: str = "image"
    """What is one case of the headline scores."""

    @property
    def labels(self) -> np.ndarray:
        """(n,) labels: 0 healthy, 1 cancer."""
        return self.data.labels[self.positions]

    @property
    def known(self) -> dict[str, np.ndarray]:
        """(n,) `patients`, `exams` and `laterality` of the images, of which units are made."""
        data, positions = self.data, self.positions
        return {
            "patients": data.patients[positions],
            "exams": data.exams[positions],
            "laterality": data.laterality[positions],
        }

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """(n,) level of each image in every subgroup column: those of the source, and view and laterality if known."""
        views = np.array([entry.view for entry in self.data.entries], dtype=str)
        columns = {"view": views, "laterality": self.data.laterality, **self.data.groups}
        chosen = {name: values[self.positions] for name, values in columns.items()}
        return {name: values for name, values in chosen.items() if (values != "").any()}

    @property
    def predicted(self) -> np.ndarray:
        """(n,) predicted classes."""
        return (self.probabilities >= self.threshold).astype(int)

    @property
    def calibrated(self) -> np.ndarray | None:
        """(n,) recalibrated probabilities; None if the model has no recalibration."""
        learned = self.info.recalibration
        return learned.calibrated(self.probabilities) if learned else None

    @property
    def rows(self) -> list[Prediction]:
        """Rows of the table of predictions."""
        entries = [self.data.entries[position] for position in self.positions]
        calibrated = [None] * len(entries) if self.calibrated is None else self.calibrated.tolist()
        columns = zip(entries, self.probabilities, self.predicted, calibrated, strict=True)
        return [
            Prediction(
                entry.image,
                entry.patient_key,
                entry.label,
                float(probability),
                int(predicted),
                recalibrated,
                breast=entry.laterality or None,
                exam=entry.exam or None,
            )
            for entry, probability, predicted, recalibrated in columns
        ]

    @property
    def description(self) -> str:
        """Caption of every figure: the data, preceded by a warning if the splits leak or cannot be checked."""
        source = self.info.trained_on.source
        kind = "PHANTOMS (synthetic mammograms)" if source == "phantom" else f"Data: {source}"
        if source == "set" and self.info.trained_on.data_set:
            kind = f"Data: {self.info.trained_on.data_set.name}"
        patients = len(set(self.data.patients[self.positions]))
        text = f"{kind} · {counted(len(self.positions), 'test image')} of {counted(patients, 'patient')}"
        text += f", scored per {self.unit}" if self.unit != "image" else ""
        return f"{self.info.audit.sentence} {text}" if self.info.audit.rank else text


def write(path: Path, rows: Iterable[Prediction]) -> None:
    """Write a table of predictions, without the optional columns that hold nothing."""
    table = [Prediction(*row) for row in rows]
    kept = [
        place
        for place, column in enumerate(COLUMNS)
        if column not in OPTIONAL or any(row[place] is not None for row in table)
    ]
    files.write_csv(path, [COLUMNS[place] for place in kept], ([row[place] for place in kept] for row in table))


def images_digest(rows: Iterable[Prediction]) -> str:
    """Return an identifier of a set of images: their names and labels, in any order."""
    return digest(sorted((row.image, row.label) for row in rows))


def probabilities_digest(rows: Iterable[Prediction]) -> str:
    """Return an identifier of a model's probabilities for a set of images, in any order; thresholds do not count."""
    return digest(sorted((row.image, row.label, row.probability) for row in rows))


def digest(content: Any) -> str:
    """Return an identifier of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]


def read(path: Path) -> list[Prediction]:
    """Read a table of predictions.

    Raises:
        UserError: the file is missing or malformed (see `parse`).

    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return parse(path.read_bytes(), str(path))


def parse(content: bytes, name: str) -> list[Prediction]:
    """Parse a table of predictions of this project; error messages refer to it as `name`.

    Raises:
        UserError: a column is missing, the table is empty, an image is duplicated or has no name, or a value is not
            allowed; the message gives the line.

    """
    return _predictions(files.parse_csv(content, name, REQUIRED), name)


def parse_any(content: bytes, name: str, probability: str = "probability") -> tuple[list[Prediction], tables.Table]:
    """Parse a table of anyone: `image`, `label` and a probability; `patient` and `predicted` may be missing.

    Args:
        content: the bytes of a CSV file.
        name: of the file, in error messages.
        probability: the column with the probabilities.

    Returns:
        The predictions, and the table, which names its columns and those that are ignored.

    Raises:
        UserError: as `parse`.

    """
    wanted = tables.plain(probability)
    required = ("image", "label", wanted)
    table = tables.parse(content, name, (*required, "patient", *OPTIONAL), required, refuse_resembling=False)
    rows = [(line, {**row, "probability": row[wanted]}) for line, row in table.rows]
    return _predictions(rows, name), table


def _predictions(lines: Iterable[tuple[int, Mapping[str, str]]], name: str) -> list[Prediction]:
    rows: dict[str, Prediction] = {}
    for line, row in lines:
        image, where = row["image"], f"{name}, line {line}"
        if not image:
            raise UserError(f"{where}: the image has no name")
        if image in rows:
            raise UserError(f"{where}: {image} is duplicated")
        label, predicted = (
            _class(row[column], f"{where}: {column}") if column in row else None for column in DECISIONS
        )
        probability = _probability(row, "probability", where)
        calibrated = _probability(row, "calibrated", where) if row.get("calibrated") else None
        patient = row.get("patient") or image
        seeds = _number(row["seeds"], f"{where}: seeds") if row.get("seeds") else None
        breast, exam = ((row.get(column) or "").strip() or None for column in ("breast", "exam"))
        rows[image] = Prediction(image, patient, label or 0, probability, predicted, calibrated, seeds, breast, exam)
    if not rows:
        raise UserError(f"{name} holds no predictions")
    return list(rows.values())


def _class(text: str | None, what: str) -> int:
    value = (text or "").strip().removesuffix(".0")  # as other programs write whole numbers
    if value not in ("0", "1"):
        raise UserError(f"{what} is {text!r}; allowed are 0 and 1")
    return int(value)


def _probability(row: Mapping[str, str], column: str, where: str) -> float:
    """Read a number from 0 to 1."""
    try:
        probability = float(row[column] or "")
    except ValueError:
        probability = -1
    if not 0 <= probability <= 1:
        raise UserError(f"{where}: {column} is {row[column]!r}; allowed is a number from 0 to 1")
    return probability


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise UserError(f"{what} is {text!r}; allowed are whole numbers from 1")
    return int(text)
