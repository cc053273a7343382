"""Decoding of a set of image files and their lesion masks into arrays."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mammo.core import cluster, parallel
from mammo.core.dataset import Delivered, Entry, OnDisk, new_array, write_delivered, write_remarks_on_images
from mammo.core.errors import UserError
from mammo.core.settings import Preprocess
from mammo.core.wording import counted
from mammo.imaging import images
from mammo.imaging.delivered import delivered
from mammo.imaging.headers import Remark
from mammo.imaging.readers import Readers, of_this_process

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
    read = [_Decoded()] * len(entries)
    with Readers() as readers:
        decode = partial(_decode, None if cluster.address() else readers, raw.absolute(), preprocess)
        chunks = [
            [entry.image for entry in entries[first : first + TOGETHER]] for first in range(0, len(entries), TOGETHER)
        ]
        for chunk, results in parallel.as_done(decode, chunks, "preprocess", f"×{TOGETHER} images"):
            for position, result in enumerate(results, chunk * TOGETHER):
                if result.pixels is not None:
                    array[position] = result.pixels
                read[position] = result._replace(pixels=None)
    unreadable = {entry.image: of.reason for entry, of in zip(entries, read, strict=True) if of.reason}
    _report(unreadable, preprocess.on_unreadable)
    kept = [position for position, of in enumerate(read) if not of.reason]
    _keep(folder, array, kept)
    write_delivered(folder, [row for row in (of.row for of in read) if row])
    readable = [entries[position] for position in kept]
    write_remarks_on_images(
        folder, [(entries[position].image, *remark) for position in kept for remark in read[position].remarks]
    )
    if masks and masks.is_dir():
        _masks(raw, masks, readable, preprocess, folder / "masks.npy")
    return readable


class _Decoded(NamedTuple):
    """A file that was read."""

    pixels: np.ndarray | None = None
    row: Delivered | None = None
    remarks: Sequence[Remark] = ()
    reason: str = ""
    """Why it cannot be read; empty if it can."""


def _decode(readers: Readers | None, raw: Path, preprocess: Preprocess, names: Sequence[str]) -> list[_Decoded]:
    """Read some images; without `readers`, by those of a worker's process."""
    readers, decoded = readers or of_this_process(), []
    for name in names:
        try:
            pixels, remarks = readers.scan(raw / name, _size(preprocess), preprocess)
            decoded.append(_Decoded(pixels, delivered(name, raw / name), remarks))
        except images.UnreadableError as error:
            decoded.append(_Decoded(reason=str(error)))
    return decoded


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
        return OnDisk(folder / "images.npy").__getitem__
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
