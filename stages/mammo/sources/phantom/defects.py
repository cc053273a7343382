"""The files of a phantom set, including the defects planted for the audit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from mammo.core.errors import UserError
from mammo.core.randomness import generator
from mammo.core.settings import Phantoms
from mammo.core.wording import counted
from mammo.sources.phantom.anatomy import FIRST_PATIENT, SIDES, VIEWS, Patient, patient_of

import cv2
import numpy as np


@dataclass(frozen=True)
class Picture:
    """One image file of the set, with its patient, view, delivered split and planted defect."""

    patient: Patient
    side: str
    view: str
    split: str
    """Split in the path."""
    label: int
    """Label in the path."""
    number: int
    """Patient number in the file name."""
    defect: str = ""
    """`near_duplicate`, `inverted`, `burned_in_text`, `other_source` or empty."""

    @property
    def path(self) -> str:
        """Path below data/raw, with forward slashes."""
        suffix = "jpg" if self.defect == "other_source" else "png"
        return f"{self.split}/{self.label}/{self.number}_{self.side}_{self.view}.{suffix}"


def planned(settings: Phantoms) -> list[Picture]:
    """Return every file of the set, including planted defects, sorted by path.

    Raises:
        UserError: the settings have more defects than suitable patients.

    """
    order = generator(settings.seed, "phantom defects").permutation(settings.patients).tolist()
    free = [patient_of(settings, index) for index in order]
    pictures = {patient.number: _pictures_of(patient, settings.both_breasts) for patient in free}
    new_numbers = count(FIRST_PATIENT + settings.patients)

    def carriers(kind: str, suitable: Callable[[Patient], bool]) -> list[list[Picture]]:
        taken = _taken(free, kind, getattr(settings.plant, kind), suitable)
        return [pictures[patient.number] for patient in taken]

    for own in carriers("leaked_patients", lambda patient: patient.split == "train"):
        own[-1] = replace(own[-1], split="test")
    for own in carriers("duplicates", lambda patient: patient.split == "train"):
        own.append(replace(own[0], split="test", number=next(new_numbers)))
    for own in carriers("near_duplicates", lambda patient: patient.split == "train"):
        own.append(replace(own[0], split="test", number=next(new_numbers), defect="near_duplicate"))
    for own in carriers("contradictions", lambda patient: patient.label == 0):
        own.append(replace(own[0], label=1))
    for defect in ("inverted", "burned_in_text"):
        for own in carriers(defect, lambda _: True):
            own[0] = replace(own[0], defect=defect)
    with_cancer = [patient for patient in free if patient.label]
    for patient in with_cancer[: round(settings.plant.metadata * len(with_cancer))]:
        number, affected = next(new_numbers), [own for own in pictures[patient.number] if own.label]
        pictures[patient.number] = [replace(own, number=number, defect="other_source") for own in affected]
    return sorted((picture for own in pictures.values() for picture in own), key=lambda picture: picture.path)


def _pictures_of(patient: Patient, both_breasts: bool) -> list[Picture]:
    """Return the pictures of a patient, without defects; of one with cancer only the affected breast if not both."""
    sides = SIDES if both_breasts or not patient.label else (patient.side,)
    return [
        Picture(patient, side, view, patient.split, int(patient.label and side == patient.side), patient.number)
        for side in sides
        for view in VIEWS
    ]


def _taken(free: list[Patient], kind: str, number: int, suitable: Callable[[Patient], bool]) -> list[Patient]:
    """Remove the first `number` suitable patients from `free` and return them, so that no patient has two defects."""
    taken = [patient for patient in free if suitable(patient)][:number]
    if len(taken) < number:
        raise UserError(
            f"data.phantom.plant.{kind} is {number}, but only {counted(len(taken), 'patient is', 'patients are')} "
            "left to carry it: lower it or raise data.phantom.patients"
        )
    for patient in taken:
        free.remove(patient)
    return taken


def with_defect(image: np.ndarray, picture: Picture, shortcut: float) -> np.ndarray:
    """Apply the shortcut (a higher exposure of class 1) and the defect of the picture to its image."""
    if picture.patient.label and picture.side == picture.patient.side and shortcut:
        image = cv2.convertScaleAbs(image, alpha=1 + 0.4 * shortcut)
    if picture.defect == "near_duplicate":
        saved = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        return cv2.convertScaleAbs(cv2.imdecode(saved, cv2.IMREAD_GRAYSCALE), alpha=0.95)
    if picture.defect == "other_source":
        larger = cv2.resize(cv2.GaussianBlur(image, (0, 0), 1.5), None, fx=1.25, fy=1.25)
        return 255 - _with_text(larger, f"{picture.side} {picture.view}")
    if picture.defect == "inverted":
        return 255 - image
    if picture.defect == "burned_in_text":
        return _with_text(image, f"{picture.side} {picture.view}")
    return image


def _with_text(image: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of `image` with white text in the upper corner away from the chest wall."""
    scale = len(image) / 640
    stroke = max(1, round(2 * scale))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    corner = len(image) - width - round(20 * scale), height + round(20 * scale)
    return cv2.putText(image.copy(), text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, stroke, cv2.LINE_AA)
