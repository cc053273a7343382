"""Scored images."""

from typing import Any

from mammo.core.errors import UserError
from mammo.core.wording import SPLIT_NAMES

import numpy as np


class Cases:
    """Labels and predicted probabilities of images; their order does not affect any score.

    Attributes:
        order: (n,) position of each image in the input.
        labels: (n,) bool, whether the image shows cancer.
        probabilities: (n,) float64, probabilities of cancer.
        patient: (n,) index of the image's patient in the sorted names of patients.
        cancer: (patients,) bool, whether the patient has an image with cancer.

    """

    def __init__(self, labels: Any, probabilities: Any, patients: Any = None, split: str = "test") -> None:
        """Check and sort the images.

        Args:
            labels: (n,) 0 (healthy) or 1 (cancer).
            probabilities: (n,) probabilities of cancer, in [0, 1].
            patients: (n,) names; by default, every image has its own patient.
            split: name of the split in error messages.

        Raises:
            UserError: only one class is present, or a probability is not a number from 0 to 1.

        """
        labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
        patients = np.asarray(np.arange(len(labels)) if patients is None else patients).astype(str)
        _refuse_unusable(labels, probabilities, patients, split)
        self.split = split
        self.order = np.lexsort((labels, probabilities, patients))
        self.labels = labels[self.order] == 1
        self.probabilities = probabilities[self.order]
        self.patient = np.unique(patients[self.order], return_inverse=True)[1]
        self.cancer = np.bincount(self.patient, self.labels) > 0

    def as_given(self, values: np.ndarray) -> np.ndarray:
        """Reorder `values` (n,) from the order of the cases to the order of the input."""
        given = np.empty_like(values)
        given[self.order] = values
        return given

    def independent(self) -> "Cases":
        """Return the same images, each with its own patient."""
        return Cases(self.as_given(self.labels), self.as_given(self.probabilities), split=self.split)

    def per_patient(self) -> "Cases":
        """Return one case per patient: cancer if any image shows it, and the mean probability of the images.

        The mean follows Wu et al. 2020 (IEEE Trans. Med. Imaging 39:1184). The maximum would increase with the number
        of images, which is higher for women with a finding: the number alone would predict cancer.
        """
        mean = np.bincount(self.patient, self.probabilities) / np.bincount(self.patient)
        mean = np.round(mean, 12)  # (0.1 + 0.6) / 2 and (0.3 + 0.4) / 2 are tied despite floating-point errors
        one = Cases.__new__(Cases)
        one.order = one.patient = np.arange(len(mean))
        one.labels = one.cancer = self.cancer
        one.probabilities, one.split = mean, self.split
        return one

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum `values` (n, k) over the images of each patient, (patients, k)."""
        starts = np.searchsorted(self.patient, np.arange(len(self.cancer)))
        return np.add.reduceat(values.astype(np.float64), starts, axis=0)

    def support(self, score: str = "") -> int:
        """Return the number of patients that determine the precision of a score.

        Patients with cancer for sensitivity, with a healthy image for specificity, all for the share of images that are
        right, otherwise the smaller of both.
        """
        ill = int(self.cancer.sum())
        healthy = len(np.unique(self.patient[~self.labels]))
        if score in ("accuracy", "accuracy_at_half", "majority_accuracy"):
            return len(self.cancer)
        return {"sensitivity": ill, "specificity": healthy}.get(score, min(ill, healthy))


def _refuse_unusable(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, split: str) -> None:
    if not len(labels) == len(probabilities) == len(patients):
        raise ValueError(f"{len(labels)} labels, {len(probabilities)} probabilities, {len(patients)} patients")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    name = SPLIT_NAMES.get(split, split)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise UserError(f"the {name} split has probabilities that are not numbers from 0 to 1: the network is broken")
    for label, kind in ((0, "healthy"), (1, "cancer")):
        if not (labels == label).any():
            raise UserError(
                f"the {name} split holds no {kind} image (label {label}): nothing can be scored on one class; "
                "give it images of both classes"
            )


class Ladder:
    """Images sorted by descending probability; each distinct probability is a rung (a threshold).

    An image is positive if its probability >= the threshold.
    """

    def __init__(self, cases: Cases) -> None:
        order = np.argsort(-cases.probabilities, kind="stable")
        self.patient = cases.patient[order]
        self.positive = cases.labels[order].astype(np.float64)
        falling = cases.probabilities[order]
        self.ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        self.probabilities = falling[self.ends]

    def climbed(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return true and false positives with the threshold at each rung, (resamples, rungs), as exact integers."""
        weights = np.take(counts, self.patient, axis=1)
        called = np.take(np.cumsum(weights, axis=1), self.ends, axis=1)
        weights *= self.positive
        true = np.take(np.cumsum(weights, axis=1, out=weights), self.ends, axis=1)
        return true, called - true
