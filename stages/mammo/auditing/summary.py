"""Summarise the audit: metrics/audit.json, and the lines that the stage prints."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammo.auditing import odd_scans, shortcut
from mammo.auditing.duplicates import KINDS, Pair
from mammo.auditing.findings import Finding
from mammo.auditing.shortcut import FOLDS, Baseline
from mammo.auditing.split_sizes import split_counts
from mammo.core.dataset import CLASSES, SPLITS, Dataset
from mammo.core.model_info import Verdict
from mammo.core.wording import counted, in_words, with_split_named
from mammo.scoring import as_json

ONE_SPLIT_EACH = "set split.by: patient"
NOUNS = {
    "patient_in_several_splits": ("patient in several splits", "patients in several splits"),
    "valid_image_of_training_patient": (
        "validation image of a training patient",
        "validation images of training patients",
    ),
    "test_image_of_training_patient": ("test image of a training patient", "test images of training patients"),
    "same_image_across_splits": ("image that is in two splits", "images that are in two splits"),
    "same_image": ("image that is twice in a split", "images that are twice in a split"),
    "same_image_with_both_labels": ("image with both labels", "images with both labels"),
    "patient_with_both_labels": ("patient with images of both labels", "patients with images of both labels"),
    "inverted": ("inverted image", "inverted images"),
    "marked": ("image with marks outside the breast", "images with marks outside the breast"),
    "no_breast": ("image without a breast", "images without a breast"),
    "not_mammography": ("DICOM file that is no mammogram", "DICOM files that are no mammograms"),
    "for_processing": ("image of raw detector data", "images of raw detector data"),
    "tomosynthesis": ("image from a tomosynthesis", "images from a tomosynthesis"),
    "implant": ("image of a breast with an implant", "images of breasts with implants"),
    "magnification": ("magnification view", "magnification views"),
    "header_view": ("header that contradicts itself on the view", "headers that contradict themselves on the view"),
    "header_side": (
        "image that shows another side than its header says",
        "images that show another side than their headers say",
    ),
}
"""What is counted, by kind of finding; singular and plural."""
REMEDIES = {
    "patient_in_several_splits": ONE_SPLIT_EACH,
    "valid_image_of_training_patient": ONE_SPLIT_EACH,
    "test_image_of_training_patient": ONE_SPLIT_EACH,
    "same_image_across_splits": "list one of them in data.exclude, or give both the same patient",
    "same_image": "list one of each pair in data.exclude",
    "same_image_with_both_labels": "correct the labels",
    "patient_with_both_labels": "nothing to do if they show two breasts; otherwise correct the labels",
    "patient_unknown": "set data.patient, or fill the column patient of labels.csv",
    "inverted": "set preprocess.canonical.right_inverted: true",
    "marked": "set preprocess.canonical.blacken_outside: true",
    "no_breast": "list those that are no mammograms in data.exclude",
    "not_mammography": "list those that are no mammograms in data.exclude",
    "tomosynthesis": "list them in data.exclude, unless new images will be of this kind too",
    "magnification": "list them in data.exclude: they show a part of a breast",
    "header_side": "look at them: side and label may belong to the other breast",
    "shortcut": "set augment.intensity_range above 0, so that brightness tells less",
    "small_split": "add patients, or raise split.valid and split.test",
}
"""What to do about a kind of finding: a setting of params.yaml, where one helps."""


def counts(
    data: Dataset, findings: Sequence[Finding], pairs: Sequence[Pair], baseline: Baseline, leak: Verdict
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
        "shortcut": as_json(_of_shortcut(baseline)),
    }


def _of_shortcut(baseline: Baseline) -> dict[str, Any]:
    """Return the scores of the brightness baseline; the cross-validated one is left out if it cannot be computed."""
    crossed = {"cross_validated_roc_auc": baseline.cross_validated, "folds": FOLDS} if baseline.cross_validated else {}
    return {"roc_auc": baseline.test, **crossed}


def for_terminal(
    leak: Verdict, findings: Sequence[Finding], baseline: Baseline, without_patient: int, table: Path, pictures: Path
) -> str:
    """Return the verdict, each kind of finding in words with what to do about it, and the bar that brightness sets."""
    verdict = f"audit: {leak.sentence or 'no leak.'}"
    bar = f"The bar, ROC AUC of brightness alone: {shortcut.in_words(baseline, without_patient)}."
    bars = [] if any(row.kind == "shortcut" for row in findings) else [bar]
    if not findings:
        return "\n".join([f"{verdict} Nothing else was found.", *bars])
    count = Counter(row.kind for row in findings if row.image)
    found = [(kind, counted(number, *NOUNS.get(kind, (in_words(kind),)))) for kind, number in count.items()]
    found += [(row.kind, with_split_named(row.detail)) for row in findings if not row.image]
    lines = [f"  {what} ({REMEDIES[kind]})" if kind in REMEDIES else f"  {what}" for kind, what in found]
    return "\n".join([f"{verdict} Pictures are in {pictures}, details in {table}. Found:", *lines, *bars])
