"""Decoding of a set of image files and their lesion masks into arrays."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mammo.core import parallel
from mammo.core.dataset import Delivered, Entry, new_array, write_delivered, write_remarks_on_images
from mammo.core.errors import UserError
from mammo.core.settings import Preprocess
from mammo.core.wording import counted
from mammo.imaging import images
from mammo.imaging.delivered import delivered
from mammo.imaging.readers import Readers
from mammo.imaging.remarks import Remark

import cv2
import numpy as np

TOGETHER = 16  # images per task of a thread: single images would cost a sixth of the time
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

    rows: dict[str, Delivered] = {}
    remarks: dict[str, list[Remark]] = {}

    readers = Readers()

    def decode(first: int) -> dict[str, str]:
        reasons = {}
        for position in range(first, min(first + TOGETHER, len(entries))):
            try:
                path = raw / entries[position].image
                array[position], remarks[entries[position].image] = readers.scan(path, _size(preprocess), preprocess)
                rows[entries[position].image] = delivered(entries[position].image, path)
            except images.UnreadableError as error:
                reasons[entries[position].image] = str(error)
        return reasons

    starts = range(0, len(entries), TOGETHER)
    unreadable: dict[str, str] = {}
    with readers:
        for reasons in parallel.each(decode, starts, "preprocess", f"×{TOGETHER} images"):
            unreadable |= reasons
    _report(unreadable, preprocess.on_unreadable)
    kept = [position for position, entry in enumerate(entries) if entry.image not in unreadable]
    _keep(folder, array, kept)
    readable = [entries[position] for position in kept]
    write_delivered(folder, [rows[entry.image] for entry in readable])
    write_remarks_on_images(folder, [(entry.image, *remark) for entry in readable for remark in remarks[entry.image]])
    if masks and masks.is_dir():
        _masks(raw, masks, readable, preprocess, folder / "masks.npy")
    return readable


def unmirrored(
    raw: Path, entries: Sequence[Entry], preprocess: Preprocess, folder: Path
) -> Callable[[int], np.ndarray]:
    """Return a function that gives the image of an entry as delivered, not mirrored, by its position.

    Args:
        raw: folder with the image files.
        entries: the readable images, as `decode_all` returns them.
        preprocess: settings of `decode_all`.
        folder: folder to which `decode_all` wrote.

    """
    if not preprocess.canonical.chest_wall_left:
        array = np.load(folder / "images.npy", mmap_mode="r")
        return lambda position: np.asarray(array[position])
    steps = preprocess.canonical.model_copy(update={"chest_wall_left": False})
    how, readers = preprocess.model_copy(update={"canonical": steps}), Readers()
    return lambda position: readers.scan(raw / entries[position].image, _size(preprocess), how)[0]


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
        (folder / "all.npy").rename(folder / "images.npy")
        return
    readable = new_array(folder / "images.npy", len(kept), array.shape[1:])
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
