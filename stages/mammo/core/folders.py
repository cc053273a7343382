"""What is inside folders: one walk for all commands, which names what it could not enter."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import NamedTuple

from mammo.core.files import IMAGE_SUFFIXES

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_MAGIC = frozenset("*?[")


class Missed(NamedTuple):
    """A folder, or what may be one, that could not be entered."""

    path: Path
    reason: str
    """Why, to be read after the path: `cannot be read: Permission denied`."""


class Walk(NamedTuple):
    """What a walk found. Each folder is entered once, by the first way that leads to it."""

    files: list[Path]
    """Everything that is not a folder, the files of a folder before those of its subfolders, each sorted by name."""
    folders: list[Path]
    """The folders that were entered, the one at the top included."""
    missed: list[Missed]
    """What could not be entered: loops, broken links, folders without permission."""
    repeated: list[tuple[Path, Path]]
    """Folders that were not entered again, each with the path by which it was entered."""


def is_visible(name: str) -> bool:
    """Return whether a name is not that of a hidden file or folder."""
    return not name.startswith(".")


def walk(folder: Path, wanted: Callable[[str], bool] = is_visible) -> Walk:
    """Find all files below a folder at any depth; links are followed.

    A folder is recognised by its device and number, not by its path: a link to a folder above it would lead round for
    ever, and twenty folders with two links each to the next would lead to the last one a million times.

    Args:
        folder: where to begin.
        wanted: whether to consider a file or folder of that name.

    """
    found = Walk([], [], [], [])
    entered: dict[tuple[int, int], Path] = {}
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        place, above = waiting.pop()
        try:
            status = place.stat()
            identity = status.st_dev, status.st_ino
            if identity in above:
                found.missed.append(Missed(place, "is a link to a folder around it"))
                continue
            if identity in entered:
                found.repeated.append((place, entered[identity]))
                continue
            names = sorted(name for name in os.listdir(place) if wanted(name))  # noqa: PTH208
        except OSError as error:
            found.missed.append(Missed(place, _reason(place, error)))
            continue
        entered[identity] = place
        found.folders.append(place)
        folders = _sorted_out(place, names, found)
        waiting += [(path, above | {identity}) for path in reversed(folders)]
    return found


def _sorted_out(place: Path, names: list[str], found: Walk) -> list[Path]:
    """Add the files among `names` to `found`, and what may be a folder to what was missed; return the folders."""
    folders: list[Path] = []
    for path in (place / name for name in names):
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except OSError as error:
            # An image that cannot be opened is still a file: whoever reads it will say so.
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found.files.append(path)
            else:
                found.missed.append(Missed(path, _reason(path, error)))
            continue
        (folders if is_folder else found.files).append(path)
    return folders


def _reason(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    if error.errno == errno.ENOENT and path.is_symlink():
        return "leads nowhere (a broken link)"
    return f"cannot be read: {error.strerror}"


def matching(pattern: str) -> tuple[list[Path], list[Missed]]:
    """Find what a pattern such as `scans/**/*.dcm` matches, and what could not be entered on the way.

    `*`, `?` and `[…]` stand for characters of one name, `**` for folders at any depth; hidden files are matched only by
    a pattern that begins with a dot. Python's own `glob` keeps silent about folders that it cannot enter, and follows a
    loop forty times.
    """
    parts = PurePath(pattern).parts
    places, missed = [Path()], list[Missed]()
    for number, part in enumerate(parts, 1):
        if part == "**":
            walks = [walk(place) for place in places if not _is_file(place)]
            missed += [miss for each in walks for miss in each.missed]
            places = [path for each in walks for path in (each.files if number == len(parts) else each.folders)]
        elif _MAGIC & set(part):
            places = [path for place in places for path in _children(place, part, missed)]
        else:
            places = [place / part for place in places if _exists(place / part, missed)]
    if pattern.endswith("/"):
        places = [place for place in places if not _is_file(place)]
    return list(dict.fromkeys(places)), list(dict.fromkeys(missed))


def _is_file(path: Path) -> bool:
    """Return whether a path is no folder; one that cannot be looked at may be one."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _children(place: Path, pattern: str, missed: list[Missed]) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(place))  # noqa: PTH208
    except OSError as error:
        if error.errno not in _ABSENT:
            missed.append(Missed(place, _reason(place, error)))
        return
    for name in names:
        if fnmatchcase(name, pattern) and (is_visible(name) or not is_visible(pattern)):
            yield place / name


def _exists(path: Path, missed: list[Missed]) -> bool:
    try:
        path.lstat()
    except OSError as error:
        if error.errno not in _ABSENT:
            missed.append(Missed(path, _reason(path, error)))
        return False
    return True
