"""Summarise the audit: metrics/audit.json, and the line that the stage prints."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mammo.auditing import odd_scans
from mammo.auditing.duplicates import KINDS, Pair
from mammo.auditing.findings import Finding
from mammo.auditing.split_sizes import split_counts
from mammo.core.dataset import CLASSES, SPLITS, Dataset
from mammo.core.model_info import Verdict
from mammo.scoring import Interval, as_json


def counts(
    data: Dataset, findings: Sequence[Finding], pairs: Sequence[Pair], baseline: Interval, leak: Verdict
) -> dict[str, Any]:
    """Return the content of metrics/audit.json, by topic."""
    count = Counter(row.kind for row in findings)
    kinds = Counter(pair.kind for pair in pairs)
    labels = dict(zip(data.names, data.labels.tolist(), strict=True))
    odd = Counter((row.kind, labels[row.image]) for row in findings if row.kind in odd_scans.KINDS)
    return {
        "leak": {
            "patients_in_several_splits": leak.patients_in_several_splits,
            "test_images_of_training_patients": leak.test_images_of_training_patients,
            "valid_images_of_training_patients": leak.valid_images_of_training_patients,
            "same_image_across_splits": leak.same_image_across_splits,
        },
        "patients": {
            "known": len({entry.patient for entry in data.entries if entry.patient}),
            "images_without_patient": sum(not entry.patient for entry in data.entries),
            "with_both_labels": count["patient_with_both_labels"],
        },
        "same_image": {
            **{kind.replace(" ", "_").replace("-", "_"): kinds[kind] for kind in KINDS},
            "mirrored": sum(pair.mirrored for pair in pairs),
            "inverted": sum(pair.inverted for pair in pairs),
            "with_both_labels": count["same_image_with_both_labels"],
        },
        "splits": {split: split_counts(data, split) for split in SPLITS},
        "appearance": {
            kind: {name: odd[kind, label] for label, name in enumerate(CLASSES)} for kind in odd_scans.KINDS
        },
        "shortcut": {"roc_auc": as_json(baseline)},
    }


def in_one_line(leak: Verdict, findings: Sequence[Finding]) -> str:
    """Return the verdict and the number of findings of each kind."""
    count = Counter(row.kind for row in findings)
    listed = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in count.items()) or "nothing found"
    return f"audit: {leak.sentence or 'no leak.'} Findings: {listed}."
