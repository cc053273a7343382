"""The table of predictions, one row per image: written by evaluate and cross-validation, read by comparisons."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mammo.core import files
from mammo.core.dataset import Dataset
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo

import numpy as np


class Prediction(NamedTuple):
    """What a model says of one image: a row of predictions.csv."""

    image: str
    patient: str
    """The image's own name where the patient is unknown."""
    label: int
    """0 healthy, 1 cancer."""
    probability: float
    """Of cancer, 0 to 1."""
    predicted: int
    """1 where the model reads cancer, at its own threshold."""


COLUMNS = Prediction._fields


@dataclass(frozen=True)
class PredictedSplit:
    """The test images and what the model says of them."""

    data: Dataset
    positions: np.ndarray
    """(n,) of the test images in `data`."""
    probabilities: np.ndarray
    """(n,) of cancer."""
    info: ModelInfo
    threshold: float

    @property
    def labels(self) -> np.ndarray:
        """(n,) 0 healthy, 1 cancer."""
        return self.data.labels[self.positions]

    @property
    def predicted(self) -> np.ndarray:
        """(n,) the classes that the model predicts."""
        return (self.probabilities >= self.threshold).astype(int)

    @property
    def rows(self) -> list[Prediction]:
        """The table of predictions."""
        entries = [self.data.entries[position] for position in self.positions]
        return [
            Prediction(entry.image, entry.patient_key, entry.label, float(probability), int(predicted))
            for entry, probability, predicted in zip(entries, self.probabilities, self.predicted, strict=True)
        ]

    @property
    def description(self) -> str:
        """What every picture says of its data, a leak before all else."""
        source = self.info.trained_on.source
        kind = "PHANTOMS (synthetic mammograms)" if source == "phantom" else f"Data: {source}"
        patients = len(set(self.data.patients[self.positions]))
        text = f"{kind} · {len(self.positions)} test images of {patients} patients"
        return f"{self.info.audit.sentence} {text}" if self.info.audit.leaking else text


def write(path: Path, rows: Iterable[Prediction]) -> None:
    """Write a table of predictions."""
    files.write_csv(path, COLUMNS, rows)


def read(path: Path) -> list[Prediction]:
    """Read a table of predictions.

    Raises:
        UserError: it is missing or malformed, as `parse` says.

    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return parse(path.read_bytes(), str(path))


def parse(content: bytes, name: str) -> list[Prediction]:
    """Return the rows of a table; `name` is what an error calls it.

    Raises:
        UserError: a column is missing, the table is empty, an image stands twice or has no name, or a value is not
            allowed: the line is named.

    """
    rows: dict[str, Prediction] = {}
    for line, row in files.parse_csv(content, name, COLUMNS):
        image, where = row["image"], f"{name}, line {line}"
        if not image:
            raise UserError(f"{where}: the image has no name")
        if image in rows:
            raise UserError(f"{where}: {image} stands here a second time")
        for column in ("label", "predicted"):
            if row[column] not in ("0", "1"):
                raise UserError(f"{where}: {column} is {row[column]!r}; allowed are 0 and 1")
        try:
            probability = float(row["probability"] or "")
        except ValueError:
            probability = -1
        if not 0 <= probability <= 1:
            raise UserError(f"{where}: probability is {row['probability']!r}; allowed is a number from 0 to 1")
        rows[image] = Prediction(image, row["patient"] or image, int(row["label"]), probability, int(row["predicted"]))
    if not rows:
        raise UserError(f"{name} holds no predictions")
    return list(rows.values())
