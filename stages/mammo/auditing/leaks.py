"""Patients in several splits, with both labels or unknown, and whether the splits leak."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from mammo.auditing.findings import Finding
from mammo.core.dataset import NAME_THE_PATIENTS, SPLITS, Dataset
from mammo.core.model_info import Verdict
from mammo.core.settings import Audit
from mammo.core.wording import counted
from mammo.scoring import verdicts

NAMED = 8  # patients listed in an error message


def patients_across_splits(data: Dataset) -> list[Finding]:
    """Find patients in more than one split, and each validation and test image of a training patient."""
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in data.entries:
        if entry.patient:
            places[entry.patient][entry.split].append(entry.image)
    findings = []
    for patient, images in places.items():
        present = [split for split in SPLITS if split in images]
        if len(present) < 2:
            continue
        detail = ", ".join(f"{len(images[split])} in {split}" for split in present)
        examples = images[present[-1]][0], images[present[0]][0]
        findings.append(Finding("patient_in_several_splits", "leak", *examples, patient, detail))
        if "train" in images:
            for split in present[1:]:
                kind = f"{split}_image_of_training_patient"
                detail = f"{counted(len(images['train']), 'image')} in train"
                findings += [Finding(kind, "leak", image, examples[1], patient, detail) for image in images[split]]
    return findings


def patients_with_both_labels(data: Dataset) -> list[Finding]:
    """Find patients with both labels: valid for two breasts, wrong for two views of one breast."""
    images: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for entry in data.entries:
        if entry.patient:
            images[entry.patient][entry.label].append(entry.image)
    findings = []
    for patient, (healthy, cancer) in images.items():
        if healthy and cancer:
            detail = f"{len(healthy)} healthy, {len(cancer)} cancer"
            findings.append(Finding("patient_with_both_labels", "note", healthy[0], cancer[0], patient, detail))
    return findings


def unknown_patients(data: Dataset) -> list[Finding]:
    """Return one finding for all images without a patient: leaks between them cannot be checked."""
    unknown = sum(not entry.patient for entry in data.entries)
    if not unknown:
        return []
    count = verdicts.without_patient(unknown, len(data.entries))
    detail = f"{count}: leakage between them cannot be checked, each counts as a patient of its own"
    return [Finding("patient_unknown", "warning", detail=detail)]


def verdict(data: Dataset, findings: Sequence[Finding]) -> Verdict:
    """Return whether the splits leak or cannot be checked, with the numbers and the sentence stored with the scores."""
    count = Counter(row.kind for row in findings if row.severity == "leak")
    unknown = sum(not entry.patient for entry in data.entries)
    if not count and not unknown:
        return Verdict(leaking=False)
    test, valid = len(data.part("test")), len(data.part("valid"))
    patients, copies = count["patient_in_several_splits"], count["same_image_across_splits"]
    test_leaking, valid_leaking = (count[f"{split}_image_of_training_patient"] for split in ("test", "valid"))
    sentences = []
    if test_leaking or valid_leaking:
        sentences.append(
            f"{test_leaking} of {counted(test, 'test image')} and {valid_leaking} of "
            f"{counted(valid, 'validation image')} show a patient who is also in training"
        )
    elif patients:
        sentences.append(f"{counted(patients, 'patient is', 'patients are')} in both validation and test")
    if copies:
        sentences.append(f"{counted(copies, 'image is', 'images are')} in two splits at once")
    said = [f"LEAKING: {'; '.join(sentences)}."] if sentences else []
    if unknown:
        said.append(verdicts.cannot_be_checked(unknown, len(data.entries)))
    leak = {
        "leaking": True,
        "test_images": test,
        "test_images_of_training_patients": test_leaking,
        "valid_images": valid,
        "valid_images_of_training_patients": valid_leaking,
        "patients_in_several_splits": patients,
        "same_image_across_splits": copies,
    }
    unchecked = {"unchecked": True, "images_in_all_splits": len(data.entries), "images_without_patient": unknown}
    return Verdict.model_validate(
        (leak if count else {"leaking": False}) | {"sentence": " ".join(said)} | (unchecked if unknown else {})
    )


def stops(verdict: Verdict, settings: Audit) -> bool:
    """Return whether the pipeline stops at this verdict."""
    if verdict.leaking:
        return settings.on_leak == "stop"
    return verdict.unchecked and settings.on_leak == settings.on_unknown_patients == "stop"


def message(leak: Verdict, findings: Sequence[Finding], table: Path, pictures: Path) -> str:
    """Return the error message of a leak, or of unknown patients: what is wrong, why it matters, what to do."""
    if not leak.leaking:
        return (
            f"{leak.sentence} {NAME_THE_PATIENTS}; or set audit.on_unknown_patients: warn, and the scores and every "
            "picture say that leakage cannot be checked."
        )
    patients = [row.patient for row in findings if row.kind == "patient_in_several_splits"]
    copies = [row for row in findings if row.kind == "same_image_across_splits"]
    lines = ["the splits are not independent, so the test score would be too good.", "  " + leak.sentence]
    remedies = []
    if patients:
        named = ", ".join(patients[:NAMED]) + (", …" if len(patients) > NAMED else "")
        lines.append(f"  {counted(len(patients), 'patient is', 'patients are')} in more than one split: {named}")
        remedies.append("split.by: patient in params.yaml puts each patient into one split only (the default);")
    if not all(row.patient for row in copies):
        remedies.append("of images that are listed under two patients remove one, or give both the same patient;")
    return "\n".join(
        [
            *lines,
            *(f"  the same image: {row.image} and {row.other} ({row.detail})" for row in copies[:3]),
            "Why it matters: the network can learn to recognise a patient, or an image it was trained on, instead of "
            "cancer; on new patients it would do worse than its score says.",
            "Do one of two things:",
            f"  {' '.join(remedies)}",
            "  audit.on_leak: warn continues all the same; the scores and every picture are then marked as leaking.",
            f"Every finding is a row of {table}; examples are drawn in {pictures}.",
        ]
    )
