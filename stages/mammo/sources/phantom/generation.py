"""Drawing of one synthetic mammogram, and of the whole set as PNG files in worker processes."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from mammo.core import files, parallel
from mammo.core.dataset import Entry
from mammo.core.randomness import generator
from mammo.core.settings import Phantoms
from mammo.sources.phantom.anatomy import Patient, breast
from mammo.sources.phantom.defects import Picture, planned, with_defect
from mammo.sources.phantom.lesions import lesion

import cv2
import numpy as np

UNCOMPRESSED = (cv2.IMWRITE_PNG_COMPRESSION, 0)  # else the size of a file would tell of the spicules in it


def draw(settings: Phantoms, patient: Patient, side: str, view: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw one mammogram.

    Args:
        settings: settings of the phantoms; `plant` is not used.
        patient: the patient.
        side: L or R; both are shown with the chest wall on the left.
        view: CC (craniocaudal) or MLO (mediolateral oblique).

    Returns:
        The image, uint8, (size, size), black outside the breast; and the mask of the cancer, 0 or 255.

    """
    random = generator(settings.seed, "phantom image", patient.number, side, view)
    value, below_skin = breast(random, patient, view, settings.size)
    added, mask = lesion(settings, patient, side, view)
    thickness = np.sqrt(1 - (1 - np.minimum(below_skin / 22, 1)) ** 2)
    value = (value + added) * thickness**0.75
    value += 0.10 * np.exp(-(((below_skin - 0.9) / 0.9) ** 2))  # the skin, seen edge-on
    value = np.clip(value, 0, 1) ** random.uniform(0.9, 1.15) * random.uniform(0.95, 1.1)
    value += 0.006 * random.standard_normal(value.shape, dtype=np.float32) * np.sqrt(value)  # quantum noise
    return np.clip(np.rint(np.where(below_skin > 0, value, 0) * 255), 0, 255).astype(np.uint8), mask


def _write(path: Path, image: np.ndarray, how: Sequence[int] = ()) -> None:
    """Write an image as the suffix of `path` says, PNG (with OpenCV's settings `how`) or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image, how if path.suffix == ".png" else ())[1].tobytes())


def _picture(settings: Phantoms, folder: Path, picture: Picture) -> Entry:
    image, mask = draw(settings, picture.patient, picture.side, picture.view)
    path = folder / picture.path
    delivered = with_defect(image, picture, settings.plant.shortcut)
    _write(path, delivered, UNCOMPRESSED)
    as_large = cv2.resize(mask, delivered.shape[::-1], interpolation=cv2.INTER_NEAREST)
    _write((folder / "masks" / picture.path).with_suffix(".png"), as_large)
    return Entry(
        picture.path,
        picture.label,
        picture.split,
        str(picture.number),
        files.sha256(path),
        laterality=picture.side,
        view=picture.view,
        laterality_from="table",
    )


def _begin_worker() -> None:
    """Turn off OpenCV's own threads, which would compete for cores, and end the worker if the stage is killed."""
    cv2.setNumThreads(1)
    parallel.end_with_parent()


def generate(settings: Phantoms, folder: Path, workers: int) -> list[Entry]:
    """Draw the set: `folder/{train,valid,test}/{0,1}/<patient>_<side>_<view>.png`, 8-bit grey.

    `folder/masks/` holds the mask of every image under the same path (always PNG): 255 on the cancer, 0 elsewhere.

    Args:
        settings: settings of the phantoms.
        folder: empty or new; the caller is responsible for atomicity.
        workers: number of processes; the files do not depend on it.

    Returns:
        One entry per image, sorted by path.

    Raises:
        UserError: the settings have more defects than suitable patients.

    """
    pictures = planned(settings)
    write = partial(_picture, settings, folder)
    if workers == 1:
        return list(parallel.progress(map(write, pictures), "drawing phantoms", len(pictures)))
    # spawn, because a fork of a process with threads (OpenCV, TensorFlow) can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_worker) as pool:
        return list(parallel.progress(pool.map(write, pictures, chunksize=8), "drawing phantoms", len(pictures)))
