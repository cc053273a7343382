"""Find new files, decode them like preprocessing, and compare them with the training images."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from mammo.core import cluster, folders, parallel
from mammo.core.bounded import BoundError
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.wording import shown
from mammo.imaging import images, limits, scan_files
from mammo.imaging.appearance import appearance
from mammo.imaging.readers import Readers, of_this_process

import numpy as np

TOGETHER = 8  # files per task of a cluster
DECODERS = 4  # maximum number of threads; each may hold a full-field mammogram in floating point


@dataclass(frozen=True)
class Scan:
    """A file that was read."""

    path: Path
    image: np.ndarray | None
    """uint8, (height, width); None where it could not be read."""
    warnings: tuple[str, ...] = ()
    """Differences from the mammograms that the model was trained on."""
    reason: str = ""
    """Why it could not be read."""
    given_up: bool = False
    """Whether reading it reached a bound of memory or time, which says nothing about the file."""


class FoundScans(NamedTuple):
    """What `find` found."""

    paths: list[Path]
    """Files to read, in the order of the arguments, then by name."""
    others: list[Path]
    """Files in the folders that are not images."""
    missed: list[folders.Missed]
    """Folders that could not be entered."""
    repeated: list[tuple[Path, Path]]
    """Folders that were not entered again, each with the path by which it was entered."""


def find(arguments: Sequence[str]) -> FoundScans:
    """Find the files that the arguments name.

    A file named as an argument is always included. From a folder, at any depth, files with an image or DICOM extension
    are included, and files without an extension (or with a numeric one, as at the end of a UID) that have a DICOM
    header. Hidden files and folders are skipped, links are followed.

    Raises:
        UserError: an argument matches nothing, or there is no image at all.

    """
    found = FoundScans([], [], [], [])
    for argument in arguments:
        named, missed = [Path(argument)], list[folders.Missed]()
        if not os.path.lexists(argument):
            named, missed = folders.matching(argument)
        if not named and not missed:
            raise UserError(f"{shown(argument)} does not exist")
        found.missed.extend(missed)
        for path in named:
            _add(path, found)
    if not found.paths and not found.missed:
        raise UserError(f"no image or DICOM file in {', '.join(shown(argument) for argument in arguments)}")
    return found


def _add(path: Path, found: FoundScans) -> None:
    """Add a file, or what is in a folder, to `found`."""
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError:  # reading it gives the reason
        is_folder = False
    if not is_folder:
        found.paths.append(path)
        return
    inside = folders.walk(path)
    for file in inside.files:
        (found.paths if scan_files.is_scan(file) else found.others).append(file)
    found.missed.extend(inside.missed)
    found.repeated.extend(inside.repeated)


def read(path: Path, info: ModelInfo, readers: Readers | None = None) -> Scan:
    """Read one file like preprocessing, and compare it with the images that the model was trained on."""
    if readers is None:
        with Readers() as own:
            return read(path, info, own)
    try:
        image, remarks = _pixels(path, info, readers)
    except BoundError as error:
        return Scan(path, None, reason=str(error).removeprefix(f"{shown(path)}: "), given_up=True)
    except images.UnreadableError as error:
        return Scan(path, None, reason=str(error))
    except MemoryError:
        return Scan(path, None, reason="could not be read for lack of memory: it may be sound", given_up=True)
    return Scan(path, image, (*remarks, *_unlike(image, info.training_intensity)))


def _pixels(path: Path, info: ModelInfo, readers: Readers) -> tuple[np.ndarray, list[str]]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise images.UnreadableError("is not a regular file")
        limits.check_bytes(status.st_size)
    except OSError as error:
        raise images.UnreadableError(f"cannot be opened: {error.strerror}") from error
    scanned = readers.scan(path, info.preprocess.size, info.preprocess)
    return scanned.image, [remark.text for remark in scanned.remarks]


def _unlike(image: np.ndarray, intensity: Mapping[str, float]) -> Iterator[str]:
    traits = appearance(image)
    if traits.without_breast:
        yield "no breast stands out from the background"
    if traits.inverted:
        yield "black on white: an inverted scan?"
    mean = float(image.mean())
    low, high = intensity["percentile_0"], intensity["percentile_100"]
    if not low <= mean <= high:
        word = "darker" if mean < low else "brighter"
        yield f"{word} than every training image (mean {mean:.0f}, theirs {low:.0f} to {high:.0f})"


def read_ahead(paths: Sequence[Path], info: ModelInfo, readers: Readers) -> Iterator[Scan]:
    """Yield the scans in the order of `paths`; at most `parallel.AHEAD` files are read in advance by threads here."""
    if cluster.address():
        absolute = [path.absolute() for path in paths]
        chunks = [absolute[first : first + TOGETHER] for first in range(0, len(paths), TOGETHER)]
        scans = chain.from_iterable(parallel.spread(partial(_read_elsewhere, info), chunks))
        yield from (replace(scan, path=path) for scan, path in zip(scans, paths, strict=True))
    else:
        yield from parallel.spread(partial(_read_here, info, readers), paths, threads=min(parallel.cores(), DECODERS))


def _read_here(info: ModelInfo, readers: Readers, path: Path) -> Scan:
    return read(path, info, readers)


def _read_elsewhere(info: ModelInfo, paths: Sequence[Path]) -> list[Scan]:
    return [read(path, info, of_this_process()) for path in paths]
