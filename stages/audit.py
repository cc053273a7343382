"""What would make the score a lie: leaks between splits, the same image twice, odd scans, shortcuts."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from mammo import scoring
from mammo.auditing import shortcut
from mammo.auditing.duplicates import HOWS, Pair, same_images
from mammo.core import files, parallel, settings, stage
from mammo.core.dataset import SPLITS, Dataset, load, read_about
from mammo.core.errors import UserError
from mammo.imaging.appearance import HISTOGRAM_BINS, Appearance, appearance, intensity_figures
from mammo.reporting import figures
from mammo.scoring import Bootstrap, Cases

ASSUMED_AUC = 0.75  # at which the width of an interval is foretold
WIDEST_USEFUL = 0.1  # half-width of the interval: beyond it an AUC of 0.75 cannot be told from 0.65
SMALLEST_CLASS = 0.1  # share of a split's images
EXAMPLES = 12  # on a picture
WORDS = ("healthy", "cancer")
COLUMNS = ("kind", "severity", "image", "other", "patient", "detail")
SEVERITIES = ("leak", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A row of plots/audit.csv."""

    kind: str
    """What was found; also the name of its picture."""
    severity: str
    """`leak` makes the score a lie; `warning` may; `note` is worth knowing."""
    image: str = ""
    """The image concerned, as in index.csv."""
    other: str = ""
    """The image it is compared with."""
    patient: str = ""
    """The patient concerned; empty where unknown."""
    detail: str = ""
    """In words."""


def main(prepared: Path, gate: Path, metrics: Path, findings: Path, pictures: Path) -> None:
    """Look in PREPARED for what would make the score a lie.

    The verdict that training waits for goes to GATE, counts to METRICS (JSON), one row per finding to FINDINGS (CSV),
    one PNG per kind of finding to the folder PICTURES. A leak stops the pipeline unless audit.on_leak is `warn`.
    """
    audit = settings.read().audit
    phantoms = read_about(prepared).source == "phantom"
    data = load(prepared)
    refuse_unusable(data)
    pairs = same_images(data.images, [entry.sha256 for entry in data.entries])
    looks, intensities = look_at_all(data.images)
    forest = intensity_forest(data, intensities, audit.seed)

    found = [
        *patients_across_splits(data),
        *images_twice(data, pairs),
        *patients_with_both_labels(data),
        *unknown_patients(data),
        *split_sizes(data),
        *odd_scans(data, looks),
        *intensity_shortcut(forest),
    ]
    found.sort(key=lambda row: (SEVERITIES.index(row.severity), row.kind, row.image, row.other, row.patient))
    verdict = leak_verdict(data, found)

    files.write_json(metrics, counts(data, found, pairs, forest))
    files.write_csv(findings, COLUMNS, ([getattr(row, column) for column in COLUMNS] for row in found))
    draw(pictures, data, found, intensities, "PHANTOMS (synthetic mammograms). " if phantoms else "")
    files.write_json(gate, verdict)
    if verdict["leaking"] and audit.on_leak == "stop":
        raise UserError(leak_message(verdict, found, findings, pictures))
    print(summary(verdict, found))


def refuse_unusable(data: Dataset) -> None:
    """Stop where there is nothing to audit.

    Raises:
        UserError: train or test lacks a class, so no detector can be trained or scored.

    """
    for split in ("train", "test"):
        for label, word in enumerate(WORDS):
            if not np.any((data.splits == split) & (data.labels == label)):
                raise UserError(f"the {split} split has no image with label {label} ({word}): nothing can be scored")


# Patients and splits


def patients_across_splits(data: Dataset) -> list[Finding]:
    """Patients in more than one split, and each validation and test image of a patient seen in training."""
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in data.entries:
        if entry.patient:
            places[entry.patient][entry.split].append(entry.image)
    found = []
    for patient, images in places.items():
        present = [split for split in reversed(SPLITS) if split in images]
        if len(present) < 2:
            continue
        detail = ", ".join(f"{len(images[split])} in {split}" for split in reversed(present))
        examples = images[present[0]][0], images[present[-1]][0]
        found.append(Finding("patient_in_several_splits", "leak", *examples, patient, detail))
        if "train" in images:
            for split in present[:-1]:
                kind, detail = f"{split}_image_of_training_patient", f"{len(images['train'])} images in train"
                found += [Finding(kind, "leak", image, images["train"][0], patient, detail) for image in images[split]]
    return found


def patients_with_both_labels(data: Dataset) -> list[Finding]:
    """Patients with healthy and with cancerous images: right for two breasts, wrong for two views of one."""
    images: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for entry in data.entries:
        if entry.patient:
            images[entry.patient][entry.label].append(entry.image)
    return [
        Finding(
            "patient_with_both_labels",
            "note",
            healthy[0],
            cancer[0],
            patient,
            f"{len(healthy)} healthy, {len(cancer)} cancer",
        )
        for patient, (healthy, cancer) in images.items()
        if healthy and cancer
    ]


def unknown_patients(data: Dataset) -> list[Finding]:
    """One finding for all images without a patient: each counts as its own, so leaks between them go unseen."""
    unknown = sum(not entry.patient for entry in data.entries)
    if not unknown:
        return []
    detail = f"{unknown} of {len(data.entries)} images have no patient: each is taken for a patient of its own"
    return [Finding("patient_unknown", "warning", detail=detail)]


# The same image twice


def images_twice(data: Dataset, pairs: Sequence[Pair]) -> list[Finding]:
    """Pairs that show the same exposure: across splits a leak, with different labels a contradiction."""
    found = []
    for pair in pairs:
        one, other = data.entries[pair.first], data.entries[pair.second]
        across, contradictory = one.split != other.split, one.label != other.label
        details = [pair.how, *(word for word in ("mirrored", "inverted") if getattr(pair, word))]
        if pair.likeness < 1:
            details.append(f"likeness {pair.likeness:.4f}")
        if one.patient != other.patient:
            details.append(f"patients {one.patient or 'unknown'} and {other.patient or 'unknown'}")
        patient = one.patient if one.patient == other.patient else ""
        row = (one.image, other.image, patient, ", ".join(details))
        found.append(
            Finding("same_image_across_splits", "leak", *row) if across else Finding("same_image", "warning", *row)
        )
        if contradictory:
            found.append(Finding("same_image_with_both_labels", "warning", *row))
    return found


# Enough images?


def expected_half_width(positive: int, negative: int) -> float:
    """Half-width of the 95 % interval of a ROC AUC of 0.75, from the numbers of cases alone.

    Counted in patients, since images of one patient are no independent cases.
    Source: Hanley & McNeil 1982, Radiology 143:29, with the exponential model's Q1 and Q2.
    """
    if not positive or not negative:
        return 0.5
    auc = ASSUMED_AUC
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc)
    spread += (positive - 1) * (both_positive - auc**2) + (negative - 1) * (both_negative - auc**2)
    return min(0.5, scoring.NORMAL * math.sqrt(spread / (positive * negative)))


def split_counts(data: Dataset, split: str) -> dict[str, Any]:
    """Images by class and patients with and without cancer in a split, with the interval to be expected."""
    part = data.part(split)
    cancer: dict[str, bool] = defaultdict(bool)
    for patient, label in zip(data.patients[part], data.labels[part], strict=True):
        cancer[patient] |= bool(label)
    positive = sum(cancer.values())
    images = Counter(data.labels[part].tolist())
    return {
        "healthy_images": images[0],
        "cancer_images": images[1],
        "cancer_share": round(images[1] / max(len(part), 1), 4),
        "patients": len(cancer),
        "patients_with_cancer": positive,
        "expected_half_width_of_auc": round(expected_half_width(positive, len(cancer) - positive), 4),
    }


def split_sizes(data: Dataset) -> list[Finding]:
    """Validation and test splits too small for a useful interval, and splits with nearly one class alone."""
    found = []
    for split in SPLITS:
        number = split_counts(data, split)
        width = number["expected_half_width_of_auc"]
        if split != "train" and width > WIDEST_USEFUL:
            detail = (
                f"{split}: {number['patients_with_cancer']} of {number['patients']} patients have cancer; "
                f"a ROC AUC of {ASSUMED_AUC} would be known to ±{width:.2f} only"
            )
            found.append(Finding("small_split", "warning", detail=detail))
        share = number["cancer_share"]
        if min(share, 1 - share) < SMALLEST_CLASS:
            detail = f"{split}: {share:.1%} of the images show cancer; accuracy says little, look at ROC AUC"
            found.append(Finding("unbalanced_split", "warning", detail=detail))
    return found


# Appearance


def look_at_all(images: np.ndarray) -> tuple[list[Appearance], np.ndarray]:
    """Appearance and the 38 intensity figures of every image."""

    def look(position: int) -> tuple[Appearance, np.ndarray]:
        image = np.ascontiguousarray(images[position])
        return appearance(image), intensity_figures(image)

    results = list(parallel.each(look, range(len(images)), "audit: appearance"))
    return [seen for seen, _ in results], np.array([figure for _, figure in results])


def odd_scans(data: Dataset, looks: Sequence[Appearance]) -> list[Finding]:
    """Inverted scans, marks outside the breast, images without a breast."""
    found = []
    for entry, seen in zip(data.entries, looks, strict=True):
        if seen.without_breast:
            detail = f"{seen.breast:.1%} of the image stands out"
            found.append(Finding("no_breast", "warning", entry.image, patient=entry.patient, detail=detail))
        if seen.inverted:
            found.append(Finding("inverted", "note", entry.image, patient=entry.patient, detail="black on white"))
        if seen.marked:
            detail = "text, label, bead or line outside the breast"
            found.append(Finding("marked", "note", entry.image, patient=entry.patient, detail=detail))
    return found


# Shortcut


def intensity_forest(data: Dataset, intensities: np.ndarray, seed: int) -> scoring.Interval:
    """ROC AUC on the test split of a random forest that knows global intensity and no anatomy.

    A network that does not beat it has not been shown to see anything.
    """
    train, test = data.part("train"), data.part("test")
    probabilities = shortcut.learned_and_asked(intensities[train], data.labels[train], intensities[test], seed)
    scores = scoring.scores(Cases(data.labels[test], probabilities, data.patients[test]), 0.5, Bootstrap(seed))
    return scores["roc_auc"]


def intensity_shortcut(auc: scoring.Interval) -> list[Finding]:
    """A finding where intensity alone tells the classes apart better than chance."""
    if auc.low <= 0.5:
        return []
    detail = (
        f"a random forest on {HISTOGRAM_BINS + 6} global intensity figures reaches a test ROC AUC of "
        f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}) without seeing any anatomy"
    )
    return [Finding("shortcut", "warning", detail=detail)]


# What is told


def counts(
    data: Dataset, found: Sequence[Finding], pairs: Sequence[Pair], shortcut: scoring.Interval
) -> dict[str, Any]:
    """All figures of metrics/audit.json, by theme."""
    number = Counter(row.kind for row in found)
    hows = Counter(pair.how for pair in pairs)
    labels = dict(zip(data.names, data.labels.tolist(), strict=True))
    odd = Counter((row.kind, labels[row.image]) for row in found if row.kind in ("inverted", "marked", "no_breast"))
    patients = {entry.patient for entry in data.entries if entry.patient}
    return {
        "leak": {
            "patients_in_several_splits": number["patient_in_several_splits"],
            "test_images_of_training_patients": number["test_image_of_training_patient"],
            "valid_images_of_training_patients": number["valid_image_of_training_patient"],
            "same_image_across_splits": number["same_image_across_splits"],
        },
        "patients": {
            "known": len(patients),
            "images_without_patient": sum(not entry.patient for entry in data.entries),
            "with_both_labels": number["patient_with_both_labels"],
        },
        "same_image": {
            **{how.replace(" ", "_").replace("-", "_"): hows[how] for how in HOWS},
            "mirrored": sum(pair.mirrored for pair in pairs),
            "inverted": sum(pair.inverted for pair in pairs),
            "with_both_labels": number["same_image_with_both_labels"],
        },
        "splits": {split: split_counts(data, split) for split in SPLITS},
        "appearance": {
            kind: {word: odd[kind, label] for label, word in enumerate(WORDS)}
            for kind in ("inverted", "marked", "no_breast")
        },
        "shortcut": {"roc_auc": scoring.as_json(shortcut)},
    }


def leak_verdict(data: Dataset, found: Sequence[Finding]) -> dict[str, Any]:
    """The gate: nothing but whether the splits leak, and what the scores must then carry along."""
    number = Counter(row.kind for row in found if row.severity == "leak")
    if not number:
        return {"leaking": False}
    test, valid = len(data.part("test")), len(data.part("valid"))
    sentences = []
    if number["test_image_of_training_patient"] or number["valid_image_of_training_patient"]:
        sentences.append(
            f"{number['test_image_of_training_patient']} of {test} test images and "
            f"{number['valid_image_of_training_patient']} of {valid} validation images show a patient who is also "
            "in training"
        )
    elif number["patient_in_several_splits"]:
        sentences.append(f"{_some(number['patient_in_several_splits'], 'patient')} in both validation and test")
    if number["same_image_across_splits"]:
        sentences.append(f"{_some(number['same_image_across_splits'], 'image')} in two splits at once")
    return {
        "leaking": True,
        "test_images": test,
        "test_images_of_training_patients": number["test_image_of_training_patient"],
        "valid_images": valid,
        "valid_images_of_training_patients": number["valid_image_of_training_patient"],
        "patients_in_several_splits": number["patient_in_several_splits"],
        "same_image_across_splits": number["same_image_across_splits"],
        "sentence": "LEAKING: " + "; ".join(sentences) + ".",
    }


def _some(number: int, noun: str) -> str:
    return f"1 {noun} is" if number == 1 else f"{number} {noun}s are"


def leak_message(verdict: dict[str, Any], found: Sequence[Finding], findings: Path, pictures: Path) -> str:
    """What a newcomer reads when a leak stops the pipeline."""
    patients = [row.patient for row in found if row.kind == "patient_in_several_splits"]
    copies = [row for row in found if row.kind == "same_image_across_splits"]
    lines = ["the splits are not independent, so the test score would be a lie.", "  " + verdict["sentence"]]
    if patients:
        more = ", …" if len(patients) > 8 else ""
        counted = "1 patient is" if len(patients) == 1 else f"{len(patients)} patients are"
        lines.append(f"  {counted} in more than one split: {', '.join(patients[:8])}{more}")
    lines += [f"  the same image: {row.image} and {row.other} ({row.detail})" for row in copies[:3]]
    lines += [
        "Why it matters: the network can learn to recognise a patient, or an image it was trained on, instead of "
        "cancer; on new patients it would do worse than its score says.",
        "Two ways on:",
    ]
    same_patient = all(row.patient for row in copies)
    if same_patient:
        lines.append("  split.by: patient in params.yaml puts each patient into one split alone (the default);")
    elif patients:
        lines.append(
            "  split.by: patient in params.yaml puts each patient into one split alone (the default); of images that "
            "stand under two patients, remove one or give both the same patient;"
        )
    else:
        lines.append("  of each image that stands under two patients remove one, or give both the same patient;")
    lines.append("  audit.on_leak: warn goes on all the same; the scores and every picture are then marked as leaking.")
    lines.append(f"Every finding is a row of {findings}; examples are drawn in {pictures}.")
    return "\n".join(lines)


def summary(verdict: dict[str, Any], found: Sequence[Finding]) -> str:
    """The findings in one line, the worst first."""
    number = Counter(row.kind for row in found)
    listed = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in number.items()) or "nothing found"
    return f"audit: {verdict['sentence'] if verdict['leaking'] else 'no leak.'} Findings: {listed}."


# Pictures


def draw(folder: Path, data: Dataset, found: Sequence[Finding], intensities: np.ndarray, about: str) -> None:
    """One picture for each kind of finding; each caption begins with what is to be said `about` the data."""
    kinds = defaultdict(list)
    for row in found:
        kinds[row.kind].append(row)
    with files.written(folder) as beside:
        beside.mkdir()
        for kind, rows in kinds.items():
            if rows[0].image:
                contact_sheet(beside / f"{kind}.png", data, rows, about)
        if "shortcut" in kinds:
            histograms(beside / "shortcut.png", data, intensities, about + _sentence(kinds["shortcut"][0].detail))
        if "small_split" in kinds or "unbalanced_split" in kinds:
            class_balance(beside / "splits.png", data, about)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def contact_sheet(path: Path, data: Dataset, rows: Sequence[Finding], about: str) -> None:
    """Examples spread evenly over the findings of one kind, each with the image it is compared with."""
    chosen = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).round().astype(int))]
    position = {name: i for i, name in enumerate(data.names)}
    tiles = [name for row in chosen for name in (row.image, row.other) if name]
    across = min(6, len(tiles))
    down = math.ceil(len(tiles) / across)
    width, height = max(1.5 * across, 3.6), 1.8 * down + 0.9
    with plt.rc_context(figures.STYLE | {"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        figure, panels = plt.subplots(down, across, figsize=(width, height), squeeze=False)
        top, bottom = 1 - 0.65 / height, 0.35 / height
        figure.subplots_adjust(left=0.02, right=0.98, top=top, bottom=bottom, hspace=0.3, wspace=0.08)
        figure.suptitle(f"{rows[0].kind.replace('_', ' ')}: {len(chosen)} of {len(rows)}", fontsize=10)
        for panel in panels.flat[len(tiles) :]:
            panel.axis("off")
        for panel, name in zip(panels.flat, tiles, strict=False):
            entry = data.entries[position[name]]
            panel.imshow(data.images[position[name]], cmap="gray", vmin=0, vmax=255)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set(color="0.6", linewidth=0.5)  # a white background has no edge of its own
            stem = PurePosixPath(name).name.split("_png")[0].rsplit(".", 1)[0]
            panel.set_title(f"{stem[:24]}\n{entry.split}, {WORDS[entry.label]}", fontsize=5.5, pad=2)
        beside = "Pairs side by side. " if rows[0].other else ""
        figures.save(figure, path, f"{about}{beside}All findings of this kind are rows of audit.csv.")


def histograms(path: Path, data: Dataset, intensities: np.ndarray, caption: str) -> None:
    """Mean share of each grey level in training images of either class: what the forest had to go by."""
    train = data.part("train")
    centres = (np.arange(HISTOGRAM_BINS) + 0.5) * 256 / HISTOGRAM_BINS
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 3.6))
        figure.subplots_adjust(left=0.13, right=0.97, top=0.92, bottom=0.25)
        for label, line in ((0, "--"), (1, "-")):
            mean = intensities[train[data.labels[train] == label], :HISTOGRAM_BINS].mean(axis=0)
            axes.plot(centres, mean, line, color=figures.INK, drawstyle="steps-mid", label=WORDS[label])
        axes.set(yscale="log", xlabel="Grey level", ylabel="Share of pixels, mean", title="Intensity gives labels away")
        axes.legend(loc="upper right")
        figures.save(figure, path, caption)


def class_balance(path: Path, data: Dataset, about: str) -> None:
    """Images of either class by split."""
    numbers = [split_counts(data, split) for split in SPLITS]
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 2.6))
        figure.subplots_adjust(left=0.12, right=0.97, top=0.88, bottom=0.33)
        healthy, cancer = ([number[f"{word}_images"] for number in numbers] for word in WORDS)
        axes.barh(SPLITS, healthy, color=figures.BAND, label="healthy")
        axes.barh(SPLITS, cancer, left=healthy, color=figures.INK, label="cancer")
        axes.invert_yaxis()
        axes.set(xlabel="Images", title="Classes by split")
        axes.legend(loc="lower right")
        widths = ", ".join(
            f"{split} ±{number['expected_half_width_of_auc']:.2f}"
            for split, number in zip(SPLITS[1:], numbers[1:], strict=True)
        )
        figures.save(figure, path, f"{about}Interval to be expected around a ROC AUC of {ASSUMED_AUC}: {widths}.")


if __name__ == "__main__":
    stage.run(main)
