"""Every image decoded, made grey, resized into one array; patients assigned to splits."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from mammo import canonical, files, images, settings, stage
from mammo.dataset import SPLITS, Entry, new_array, read_index, write_index
from mammo.errors import UserError
from mammo.randomness import seed_of
from pydantic import Field

TOGETHER = 16  # images a thread decodes at a time: handing over single ones costs a sixth of the time
Pixels = Annotated[int, Field(ge=32, le=4096)]
Share = Annotated[float, Field(gt=0, lt=0.5)]


class Split(settings.Settings):
    """Section `split` of params.yaml."""

    by: Literal["patient", "folder"]
    seed: int
    valid: Share
    test: Share


class Preprocess(settings.Settings):
    """Section `preprocess` of params.yaml."""

    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    on_unreadable: Literal["stop", "skip"]
    canonical: canonical.Steps


def main(raw: Path, prepared: Path, metrics: Path) -> None:
    """Decode the images of RAW into PREPARED/images.npy and index.csv; count them in METRICS."""
    split = settings.read("split", Split)
    how = settings.read("preprocess", Preprocess)
    delivered = read_index(raw)
    with files.written(prepared) as folder:
        folder.mkdir()
        unreadable = decode_all(raw, delivered, how, folder)
        report(unreadable, how.on_unreadable)
        entries = assign([entry for entry in delivered if entry.image not in unreadable], split)
        write_index(folder, entries)
        files.write_json(metrics, counts(entries, unreadable))


def decode_all(raw: Path, entries: Sequence[Entry], how: Preprocess, folder: Path) -> dict[str, str]:
    """Decode into `folder/images.npy` (uint8, n × height × width) and, where raw/masks exists, `folder/masks.npy`.

    Images are decoded on all visible cores straight into the file, so memory does not grow with their number.

    Returns:
        reason by image of those that could not be read; they have no row in the arrays.

    """
    unreadable: dict[str, str] = {}
    size = how.size[0], how.size[1]
    array = new_array(folder / "all.npy", len(entries), size)

    def decode(first: int) -> dict[str, str]:
        reasons = {}
        for position in range(first, min(first + TOGETHER, len(entries))):
            try:
                array[position] = images.read(raw / entries[position].image, size, how.canonical)
            except images.UnreadableError as error:
                reasons[entries[position].image] = str(error)
        return reasons

    cv2.setNumThreads(1)
    starts = range(0, len(entries), TOGETHER)
    with ThreadPoolExecutor(stage.cores()) as pool:
        for reasons in stage.progress(pool.map(decode, starts), "preprocess", len(starts), unit=f"×{TOGETHER} images"):
            unreadable.update(reasons)
    kept = [position for position, entry in enumerate(entries) if entry.image not in unreadable]
    _keep(folder, array, kept)
    if (raw / "masks").is_dir():
        _masks(raw, [entries[position].image for position in kept], how, folder / "masks.npy")
    return unreadable


def _keep(folder: Path, array: np.memmap, kept: Sequence[int]) -> None:
    array.flush()
    if len(kept) == len(array):
        (folder / "all.npy").rename(folder / "images.npy")
        return
    chosen = new_array(folder / "images.npy", len(kept), array.shape[1:])
    for target, source in enumerate(kept):
        chosen[target] = array[source]
    chosen.flush()
    (folder / "all.npy").unlink()


def _masks(raw: Path, names: Sequence[str], how: Preprocess, path: Path) -> None:
    """Lesion masks of phantoms (0 or 255) in the same geometry; an image without a mask file has no lesion."""
    size = how.size[0], how.size[1]
    masks = new_array(path, len(names), size)
    for position, name in enumerate(names):
        file = raw / "masks" / name
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) if file.is_file() else None
        if mask is not None:
            covered = images.moved_along(mask, raw / name, size, how.canonical)
            masks[position] = np.where(covered >= 64, 255, 0)  # a pixel a quarter covered belongs to the lesion
    masks.flush()


def report(unreadable: dict[str, str], on_unreadable: str) -> None:
    """Name every unreadable file; stop unless the user has said to skip them.

    Raises:
        UserError: there are some and `preprocess.on_unreadable` is `stop`.

    """
    if not unreadable:
        return
    listing = "\n".join(f"  {image} {reason}" for image, reason in unreadable.items())
    if on_unreadable == "stop":
        raise UserError(
            f"{len(unreadable)} images cannot be read:\n{listing}\n"
            "Mend or remove them, or set preprocess.on_unreadable: skip to go on without them."
        )
    print(f"preprocess: {len(unreadable)} images skipped:\n{listing}")


def assign(entries: Sequence[Entry], split: Split) -> list[Entry]:
    """Put every entry into its split.

    `folder` keeps the delivered one. `patient` orders the patients of each class (any image with cancer, or none) by a
    hash of seed and patient and cuts the order at the asked shares: no patient in two splits, both classes shared out
    evenly, and a patient who is added later moves only those at the two cuts.

    Raises:
        UserError: `folder` without a delivered split, or a split that would lack a class.

    """
    if not entries:
        raise UserError("no readable image is left")
    if split.by == "folder":
        lacking = [entry.image for entry in entries if entry.split not in SPLITS]
        if lacking:
            raise UserError(f"{lacking[0]} was delivered without a split: set split.by: patient")
        assigned = list(entries)
    else:
        place = split_of_patients(entries, split)
        assigned = [replace(entry, split=place[entry.patient or entry.image]) for entry in entries]
    for name in SPLITS:
        for label, word in enumerate(("healthy", "cancerous")):
            if not any(entry.split == name and entry.label == label for entry in assigned):
                raise UserError(f"the {name} split has no {word} image: more images or other split settings are needed")
    return assigned


def split_of_patients(entries: Sequence[Entry], split: Split) -> dict[str, str]:
    """The split of every patient, by the rule of `assign`."""
    cancer: dict[str, bool] = {}
    for entry in entries:
        patient = entry.patient or entry.image
        cancer[patient] = cancer.get(patient, False) or entry.label == 1
    place = {}
    for label in (False, True):
        patients = [patient for patient in cancer if cancer[patient] is label]
        patients.sort(key=lambda patient: (seed_of(split.seed, "split", patient), patient))
        test, valid = round(len(patients) * split.test), round(len(patients) * (split.test + split.valid))
        for rank, patient in enumerate(patients):
            place[patient] = "test" if rank < test else "valid" if rank < valid else "train"
    return place


def counts(entries: Sequence[Entry], unreadable: dict[str, str]) -> dict[str, dict[str, int]]:
    """Images and patients by split, and what was skipped, for metrics/preprocess.json."""
    table: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        part = [entry for entry in entries if entry.split == name]
        labels = Counter(entry.label for entry in part)
        patients = len({entry.patient or entry.image for entry in part})
        table[name] = {"healthy": labels[0], "cancer": labels[1], "patients": patients}
    return {**table, "unreadable": {"skipped": len(unreadable)}}


if __name__ == "__main__":
    stage.run(main)
