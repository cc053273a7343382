"""Check that the splits have enough images of both classes for a meaningful score."""

import math
from typing import Any

from mammo import scoring
from mammo.auditing.findings import Finding
from mammo.core.dataset import CLASSES, SPLITS, Dataset
from mammo.core.errors import UserError
from mammo.core.wording import SPLIT_NAMES

import numpy as np

ASSUMED_AUC = 0.75  # for which the width of the interval is predicted
WIDEST_USEFUL = 0.1  # half-width of the interval; if wider, an AUC of 0.75 cannot be distinguished from 0.65
SMALLEST_CLASS = 0.1  # share of a split's images


def refuse_missing_class(data: Dataset) -> None:
    """Raise an error if the data cannot be trained on or scored.

    Raises:
        UserError: the training or test split lacks a class.

    """
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            if not np.any((data.splits == split) & (data.labels == label)):
                raise UserError(
                    f"the {SPLIT_NAMES[split]} split has no image with label {label} ({name}): nothing can be scored"
                )


def expected_half_width(positive: int, negative: int) -> float:
    """Return the expected half-width of the 95 % interval of a ROC AUC of 0.75, from the numbers of cases.

    Cases are patients, since images of one patient are not independent.
    Source: Hanley & McNeil 1982, Radiology 143:29, with the exponential model's Q1 and Q2.
    """
    if not positive or not negative:
        return 0.5
    auc = ASSUMED_AUC
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (positive - 1) * (both_positive - auc**2) + (negative - 1) * (both_negative - auc**2)
    return min(0.5, scoring.NORMAL * math.sqrt(variance / (positive * negative)))


def split_counts(data: Dataset, split: str) -> dict[str, Any]:
    """Return a split's images by class, patients, patients with cancer, and expected half-width of the AUC."""
    part = data.part(split)
    labels, patients = data.labels[part], data.patients[part]
    number, cancer = len(np.unique(patients)), int(labels.sum())
    with_cancer = len(np.unique(patients[labels == 1]))
    return {
        "healthy_images": len(part) - cancer,
        "cancer_images": cancer,
        "cancer_share": round(cancer / max(len(part), 1), 4),
        "patients": number,
        "patients_with_cancer": with_cancer,
        "expected_half_width_of_auc": round(expected_half_width(with_cancer, number - with_cancer), 4),
    }


def small_or_unbalanced(data: Dataset) -> list[Finding]:
    """Find validation and test splits too small for a useful interval, and splits with very unbalanced classes."""
    findings = []
    for split in SPLITS:
        count = split_counts(data, split)
        width = count["expected_half_width_of_auc"]
        if split != "train" and width > WIDEST_USEFUL:
            detail = (
                f"{split}: {count['patients_with_cancer']} of {count['patients']} patients have cancer; "
                f"a ROC AUC of {ASSUMED_AUC} would be known to ±{width:.2f} only"
            )
            findings.append(Finding("small_split", "warning", detail=detail))
        share = count["cancer_share"]
        if min(share, 1 - share) < SMALLEST_CLASS:
            detail = f"{split}: {share:.1%} of the images show cancer; accuracy says little, look at ROC AUC"
            findings.append(Finding("unbalanced_split", "warning", detail=detail))
    return findings
