"""Find inverted scans, marks outside the breast, and images without a breast."""

from collections.abc import Sequence
from functools import partial

from mammo.auditing.findings import Finding
from mammo.auditing.shortcut import brightness_features
from mammo.core import dataset, parallel
from mammo.core.dataset import Dataset
from mammo.imaging.appearance import Appearance, appearance

import numpy as np

TOGETHER = 16  # images per task
KINDS = ("inverted", "marked", "no_breast")


def examine(images: np.ndarray) -> tuple[list[Appearance], np.ndarray]:
    """Return the appearance and the intensity features of every image.

    Args:
        images: uint8, (n, height, width), may be memory-mapped.

    Returns:
        n appearances, and features, float32, (n, 38).

    """
    chunks = [range(start, min(start + TOGETHER, len(images))) for start in range(0, len(images), TOGETHER)]
    examined = partial(_examined, dataset.by_path(images))
    parts = list(parallel.spread(examined, chunks, "audit: appearance", f"×{TOGETHER} images"))
    return [traits for part, _ in parts for traits in part], np.concatenate([features for _, features in parts])


def _examined(images: np.ndarray | dataset.OnDisk, positions: range) -> tuple[list[Appearance], np.ndarray]:
    pictures = [np.ascontiguousarray(images[position]) for position in positions]
    return [appearance(image) for image in pictures], np.array([brightness_features(image) for image in pictures])


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
