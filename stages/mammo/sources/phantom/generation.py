"""Drawing of one synthetic mammogram, and of the whole set as PNG files in worker processes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from mammo.core import files, parallel
from mammo.core.dataset import Entry
from mammo.core.randomness import generator
from mammo.core.settings import Phantoms
from mammo.sources.phantom.anatomy import Patient, breast
from mammo.sources.phantom.defects import Picture, planned, with_defect
from mammo.sources.phantom.lesions import lesion

import cv2
import numpy as np

TOGETHER = 8  # images per task
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


def _encoded(suffix: str, image: np.ndarray, how: Sequence[int] = ()) -> bytes:
    """Return the file of an image as its suffix says, PNG (with OpenCV's settings `how`) or JPEG."""
    return cv2.imencode(suffix, image, how if suffix == ".png" else ())[1].tobytes()


def _drawn(settings: Phantoms, pictures: Sequence[Picture]) -> list[tuple[bytes, bytes]]:
    """Return the files of pictures and of their masks."""
    files_of = []
    for picture in pictures:
        image, mask = draw(settings, picture.patient, picture.side, picture.view)
        delivered = with_defect(image, picture, settings.plant.shortcut)
        as_large = cv2.resize(mask, delivered.shape[::-1], interpolation=cv2.INTER_NEAREST)
        suffix = PurePosixPath(picture.path).suffix
        files_of.append((_encoded(suffix, delivered, UNCOMPRESSED), _encoded(".png", as_large)))
    return files_of


def _written(folder: Path, picture: Picture, image: bytes, mask: bytes) -> Entry:
    path = folder / picture.path
    for file, content in ((path, image), ((folder / "masks" / picture.path).with_suffix(".png"), mask)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
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


def generate(settings: Phantoms, folder: Path, workers: int) -> list[Entry]:
    """Draw the set: `folder/{train,valid,test}/{0,1}/<patient>_<side>_<view>.png`, 8-bit grey.

    `folder/masks/` holds the mask of every image under the same path (always PNG): 255 on the cancer, 0 elsewhere.

    Args:
        settings: settings of the phantoms.
        folder: empty or new; the caller is responsible for atomicity.
        workers: number of processes, unless a cluster draws; the files do not depend on it.

    Returns:
        One entry per image, sorted by path.

    Raises:
        UserError: the settings have more defects than suitable patients.

    """
    pictures = planned(settings)
    chunks = [pictures[start : start + TOGETHER] for start in range(0, len(pictures), TOGETHER)]
    drawn = parallel.spread(
        partial(_drawn, settings), chunks, "drawing phantoms", f"×{TOGETHER} images", 1, workers if workers > 1 else 0
    )
    return [
        _written(folder, picture, *content)
        for chunk, contents in zip(chunks, drawn, strict=True)
        for picture, content in zip(chunk, contents, strict=True)
    ]
