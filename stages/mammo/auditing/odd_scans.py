"""Find inverted scans, marks outside the breast, and images without a breast."""

from collections.abc import Sequence

from mammo.auditing.findings import Finding
from mammo.auditing.shortcut import brightness_features
from mammo.core import parallel
from mammo.core.dataset import Dataset
from mammo.imaging.appearance import Appearance, appearance

import numpy as np

KINDS = ("inverted", "marked", "no_breast")


def examine(images: np.ndarray) -> tuple[list[Appearance], np.ndarray]:
    """Return the appearance and the intensity features of every image.

    Args:
        images: uint8, (n, height, width), may be memory-mapped.

    Returns:
        n appearances, and features, float32, (n, 38).

    """

    def one(position: int) -> tuple[Appearance, np.ndarray]:
        image = np.ascontiguousarray(images[position])
        return appearance(image), brightness_features(image)

    results = list(parallel.each(one, range(len(images)), "audit: appearance"))
    return [traits for traits, _ in results], np.array([features for _, features in results])


def odd_scans(data: Dataset, appearances: Sequence[Appearance]) -> list[Finding]:
    """Find inverted scans, marks outside the breast, and images without a breast."""
    findings = []
    for entry, traits in zip(data.entries, appearances, strict=True):
        if traits.without_breast:
            detail = f"{traits.breast:.1%} of the image stands out"
            findings.append(Finding("no_breast", "warning", entry.image, patient=entry.patient, detail=detail))
        if traits.inverted:
            findings.append(Finding("inverted", "note", entry.image, patient=entry.patient, detail="black on white"))
        if traits.marked:
            detail = "text, label, bead or line outside the breast"
            findings.append(Finding("marked", "note", entry.image, patient=entry.patient, detail=detail))
    return findings
