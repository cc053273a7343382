"""Decoding of a set of image files and their lesion masks into arrays."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mammo.core import cluster, parallel
from mammo.core.dataset import IMAGES, Delivered, Entry, new_array, write_delivered, write_remarks_on_images
from mammo.core.errors import UserError
from mammo.core.settings import Preprocess
from mammo.core.wording import counted
from mammo.imaging import images
from mammo.imaging.canonical import STEPS, Chosen
from mammo.imaging.readers import Preprocessing, Readers, Reading, of_this_process
from mammo.imaging.scanned import Properties, Remark, Scanned

import cv2
import numpy as np

TOGETHER = 16  # images per task of a thread: single images would cost a sixth of the time
WRITTEN = np.empty((0, 0), np.uint8)  # instead of an image that is at its place already
COVERED = 64  # of 255: a pixel of which the lesion covers a quarter belongs to it


def decode_all(
    raw: Path, entries: Sequence[Entry], preprocess: Preprocess, folder: Path, masks: Path | None = None
) -> list[Entry]:
    """Write `folder/images.npy` (uint8, n × height × width), files.csv, remarks.csv where there are remarks on
    DICOM files and, if the folder `masks` exists, masks.npy.

    Images are decoded on all available cores directly into the file; memory does not grow with their number.

    Returns:
        The entries of the readable images, in the order of the arrays.

    Raises:
        UserError: an image is unreadable and `preprocess.on_unreadable` is `stop`.
        BoundError: decoding an image reached a bound or memory was short; that is no reason to skip it.

    """
    array = new_array(folder / "all.npy", len(entries), _size(preprocess))
    properties = [Properties(0, 0, 0, "")] * len(entries)
    remarks: dict[int, list[Remark]] = {}
    reasons: dict[int, str] = {}
    with Readers() as readers:
        remote = bool(cluster.address())
        decode = partial(_decode, None if remote else readers, None if remote else array, raw.absolute(), preprocess)
        chunks = [
            (first, [entry.image for entry in entries[first : first + TOGETHER]])
            for first in range(0, len(entries), TOGETHER)
        ]
        for chunk, results in parallel.as_done(decode, chunks, "preprocess", f"×{TOGETHER} images"):
            for position, result in enumerate(results, chunk * TOGETHER):
                if isinstance(result, str):
                    reasons[position] = result
                    continue
                image, said, properties[position] = result
                if image.size:
                    array[position] = image
                if said:
                    remarks[position] = said
    unreadable = {entries[position].image: reasons[position] for position in sorted(reasons)}
    _report(unreadable, preprocess.on_unreadable)
    kept = [position for position in range(len(entries)) if position not in reasons]
    _keep(folder, array, kept)
    readable = [entries[position] for position in kept]
    write_delivered(folder, (Delivered(entries[position].image, *properties[position]) for position in kept))
    said_of = ((entries[position].image, remarks.get(position, [])) for position in kept)
    write_remarks_on_images(folder, ((image, *remark) for image, said in said_of for remark in said))
    if masks and masks.is_dir():
        _masks(raw, masks, readable, preprocess, folder / "masks.npy")
    return readable


def _decode(
    readers: Readers | None, array: np.ndarray | None, raw: Path, preprocess: Preprocess, chunk: tuple[int, list[str]]
) -> list[Scanned | str]:
    """Read images; a file that cannot be read gives the reason.

    Args:
        readers: of this process; a worker of a cluster has its own.
        array: where the images are written, which are then not returned; None on a worker.
        raw: folder with the image files.
        preprocess: how they are read.
        chunk: position of the first image, and the names of all.

    """
    readers, decoded = readers or of_this_process(), list[Scanned | str]()
    for position, name in enumerate(chunk[1], chunk[0]):
        try:
            scanned = readers.scan(raw / name, _size(preprocess), preprocess)
            if array is not None:
                array[position] = scanned.image
                scanned = scanned._replace(image=WRITTEN)
            decoded.append(scanned)
        except images.UnreadableError as error:
            decoded.append(str(error))
    return decoded


def unmirrored(
    path_of: Callable[[int], Path], array: np.ndarray, preprocess: Preprocessing
) -> Callable[[int], np.ndarray]:
    """Return a function that gives an image as delivered, not mirrored, by its position.

    Args:
        path_of: returns the file of an image by its position.
        array: uint8, (n, height, width), the images as prepared.
        preprocess: how they were prepared.

    """
    if not preprocess.canonical.chest_wall_left:
        return lambda position: np.asarray(array[position])
    chosen = {name: getattr(preprocess.canonical, name) for name in STEPS}
    steps = Chosen(**{**chosen, "chest_wall_left": False})
    size, how, readers = (array.shape[1], array.shape[2]), Reading(steps, preprocess.for_processing), Readers()
    return lambda position: readers.scan(path_of(position), size, how).image


def _size(preprocess: Preprocess) -> tuple[int, int]:
    height, width = preprocess.size
    return height, width


def _report(unreadable: dict[str, str], on_unreadable: str) -> None:
    """List the unreadable images; raise an error if `on_unreadable` is `stop`."""
    if not unreadable:
        return
    listing = "\n".join(f"  {image} {reason}" for image, reason in unreadable.items())
    if on_unreadable == "stop":
        raise UserError(
            f"{counted(len(unreadable), 'image')} cannot be read:\n{listing}\n"
            "Fix or remove them, or set preprocess.on_unreadable: skip to go on without them."
        )
    print(f"preprocess: {counted(len(unreadable), 'image')} skipped:\n{listing}")


def _keep(folder: Path, array: np.memmap, kept: Sequence[int]) -> None:
    array.flush()
    if len(kept) == len(array):
        (folder / "all.npy").rename(folder / IMAGES)
        return
    readable = new_array(folder / IMAGES, len(kept), array.shape[1:])
    for target, source in enumerate(kept):
        readable[target] = array[source]
    readable.flush()
    (folder / "all.npy").unlink()


def _masks(raw: Path, folder: Path, entries: Sequence[Entry], preprocess: Preprocess, path: Path) -> None:
    """Write the lesion masks of phantoms (0 or 255) in the geometry of the images; no mask file means no lesion."""
    masks = new_array(path, len(entries), _size(preprocess))
    for position, entry in enumerate(entries):
        file = (folder / entry.image).with_suffix(".png")
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) if file.is_file() else None
        if mask is not None:
            covered = images.move_along(mask, raw / entry.image, _size(preprocess), preprocess.canonical)
            masks[position] = np.where(covered >= COVERED, 255, 0)
    masks.flush()
