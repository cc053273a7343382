"""Checks of what a described set says as a whole: one label per breast, patients that are patients, splits."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from mammo.core.dataset import SPLITS, Entry
from mammo.core.set_description import SetDescription
from mammo.core.wording import SPLIT_NAMES, counted
from mammo.sources.described.findings import Findings, examples
from mammo.sources.described.images import Disk


def check(entries: Sequence[Entry], description: SetDescription, disk: Disk, findings: Findings) -> None:
    """Name breasts with two labels, patients in several delivered splits, and a patient who is none."""
    _one_label_per_breast(entries, findings)
    _one_split_per_patient(entries, findings)
    _patients_are_patients(entries, description, findings)
    _patient_id(entries, disk, findings)
    for label, word in enumerate(("healthy", "cancerous")):
        if entries and not any(entry.label == label for entry in entries):
            key = ("label.healthy", "label.cancer")[label]
            findings.fault(f"no image is {word}: check {key} in the description against the table")


def breasts(entries: Iterable[Entry]) -> set[tuple[str, str]]:
    """Return the breasts of known patients and sides, as (patient, laterality)."""
    return {(entry.patient, entry.laterality) for entry in entries if entry.patient and entry.laterality}


def _one_label_per_breast(entries: Sequence[Entry], findings: Findings) -> None:
    labels: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for entry in entries:
        if entry.patient and entry.laterality:
            labels[entry.patient, entry.laterality, entry.exam].add(entry.label)
    both = sorted(breast for breast, seen in labels.items() if len(seen) > 1)
    if both:
        named = examples((f"{patient} {side}" for patient, side, _ in both), len(both))
        findings.note(
            f"{counted(len(both), 'breast')} with two labels, cancer on one image and healthy on another ({named}): "
            "correct the table, or list the images that show no cancer in data.exclude"
        )


def _one_split_per_patient(entries: Sequence[Entry], findings: Findings) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.patient and entry.split:
            splits[entry.patient].add(entry.split)
    several = sorted(patient for patient, seen in splits.items() if len(seen) > 1)
    if several:
        named = ", ".join(SPLIT_NAMES[name] for name in SPLITS if any(name in splits[patient] for patient in several))
        number = counted(len(several), "patient is", "patients are")
        findings.note(
            f"{number} in several delivered splits ({named}; {examples(several)}): keep split.by: patient, since "
            "split.by: folder would leak"
        )


def _patients_are_patients(entries: Sequence[Entry], description: SetDescription, findings: Findings) -> None:
    """Name a column that has one value for all images, and an identifier that is another one for every image."""
    known = [entry.patient for entry in entries if entry.patient]
    number, source = len(set(known)), description.patient
    if source is None or len(known) < 4:
        return
    where = f"header {source.header}" if source.header else f"column {source.column!r}" if source.column else "the path"
    if number == 1:
        findings.fault(
            f"{where} is {known[0]!r} for all {counted(len(known), 'image')}: it is no patient; name another source "
            "of `patient` in the description"
        )
    if number == len(known) and _sides_and_views(entries) > 1:
        findings.add(
            f"{where} is another one for each of the {counted(len(known), 'image')}, though they show several sides "
            "or views: it is hardly the patient; name another source of `patient` in the description",
            stops=bool(source.header),
        )


def _sides_and_views(entries: Sequence[Entry]) -> int:
    return len({(entry.laterality, entry.view) for entry in entries})


def _patient_id(entries: Sequence[Entry], disk: Disk, findings: Findings) -> None:
    """Say that PatientID in the headers is not the patient, where it tells images of a patient apart."""
    ids: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.patient and (header := disk.header(entry.image, "patient_id")):
            ids[entry.patient].add(header)
    several = [patient for patient, seen in ids.items() if len(seen) > 1]
    if several:
        different = len(set().union(*ids.values()))
        findings.note(
            f"PatientID in the headers is not the patient: {different:,} values for {counted(len(ids), 'patient')}; "
            "`patient` of the description is used"
        )
