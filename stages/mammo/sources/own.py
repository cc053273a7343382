"""The user's own images and downloaded data sets: find, check and copy them into data/raw."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from mammo.core import folders, parallel, tables
from mammo.core.dataset import SPLITS, Entry
from mammo.core.errors import UserError
from mammo.core.wording import counted
from mammo.imaging import scan_files
from mammo.sources import more_columns
from mammo.sources.patients import patient_of

LABELS = ("0", "1")
LIST = "labels.csv"
LISTED = 20
"""Maximum number of faults that are listed; the others are counted."""

PIECE = 1 << 20  # bytes that are copied at once

COLUMNS = ("image", "label", "patient", "split", *more_columns.COLUMNS)
"""Columns of labels.csv; only the first two must be there. Others become groups."""

_HOMES = re.compile(r"/home/[^/]+|/Users/[^/]+|[A-Za-z]:[\\/]Users[\\/][^\\/]+")
_NOT_DATA = ("README.md", "Thumbs.db", "desktop.ini", "__MACOSX")
_TREE = "{train,valid,test}/{0,1}/"


@dataclass(frozen=True)
class Found:
    """An image file of the source."""

    path: Path
    """Path of the file, which may contain symbolic links."""
    entry: Entry
    """Its row of index.csv, without the hash."""


def own(folder: Path, patient: str) -> list[Found]:
    """Find the user's own images, by labels.csv if the folder has one, otherwise by the folder tree.

    Args:
        folder: contains `labels.csv` or the folders `{train,valid,test}/{0,1}/`.
        patient: pattern whose group 1 in the file name is the patient, unless labels.csv has the column `patient`.

    Raises:
        UserError: the folder has neither form, or has faults, which are listed.

    """
    try:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: set data.folder in params.yaml to the folder with your images")
        if (folder / LIST).is_file():
            return listed(folder, patient)
        if not any((folder / split).exists() for split in SPLITS) and _only_folder(folder) is None:
            raise UserError(
                f"{folder} (data.folder) holds neither labels.csv (image,label[,patient][,split]) nor the folders "
                f"{_TREE}; data/own/README.md has both forms"
            )
        return tree(folder, patient)
    except OSError as error:
        raise UserError(f"{error.filename} (data.folder) cannot be read: {error.strerror}") from error


def tree(folder: Path, patient: str) -> list[Found]:
    """Find the images of `{train,valid,test}/{0,1}/…` at any depth; the tree may be wrapped in one folder.

    Hidden files and README.md are ignored. Class folders may contain only images; other folders anything but images.

    Raises:
        UserError: a class folder is missing or empty or contains another file, or an image is outside of them.

    """
    if not any((folder / split).exists() for split in SPLITS):
        folder = _only_folder(folder) or folder
    found, faults = [], []
    filled = set()
    for path in files_below(folder):
        place = path.relative_to(folder)
        is_image = scan_files.is_scan(path)
        inside = len(place.parts) > 2 and place.parts[0] in SPLITS and place.parts[1] in LABELS
        if not inside:
            if is_image:
                faults.append(f"{place} is not in one of {_TREE}")
        elif (fault := _fault_of(path)) is not None:
            faults.append(f"{place} {fault}")
        else:
            filled.add(place.parts[:2])
            name = place.as_posix()
            found.append(Found(path, Entry(name, int(place.parts[1]), place.parts[0], patient_of(patient, name), "")))
    empty = [f"{split}/{label}" for split in SPLITS for label in LABELS if (split, label) not in filled]
    faults = [f"{name} is missing or holds no image" for name in empty] + faults
    if faults:
        raise UserError(f"{folder} is not laid out as {_TREE}: {'; '.join(first(faults))}")
    return found


def classes(folder: Path, patient: str) -> list[Found]:
    """Find the images of `{0,1}/…` or `{train,valid,test}/{0,1}/…`, at any depth, without their splits.

    Raises:
        UserError: a class folder contains another file, or an image is outside of them.

    """
    found, faults = [], []
    for path in files_below(folder):
        place = path.relative_to(folder)
        inside = place.parts[1:] if place.parts[0] in SPLITS else place.parts
        if len(inside) < 2 or inside[0] not in LABELS:
            if scan_files.is_scan(path):
                faults.append(f"{place} is not in one of the folders 0 and 1")
        elif (fault := _fault_of(path)) is not None:
            faults.append(f"{place} {fault}")
        else:
            name = place.as_posix()
            found.append(Found(path, Entry(name, int(inside[0]), "", patient_of(patient, name), "")))
    if faults or not found:
        listed = "; ".join(first(faults)) or "it holds no image in them"
        raise UserError(
            f"{folder} is not laid out as {{0,1}}/ or {_TREE}, and has no {LIST} (image,label[,patient]): {listed}"
        )
    return found


def listed(folder: Path, patient: str) -> list[Found]:
    """Read the images listed in `folder/labels.csv`, to be stored under `<split>/<label>/` (`train` without a split).

    Raises:
        UserError: a column is missing, doubled or nearly right, or rows are invalid; lists their lines.

    """
    table = folder / LIST
    found: list[Found] = []
    faults = []
    line_of: dict[Path | str, int] = {}
    content = _table(folder)
    groups = more_columns.groups(content)
    for line, row in content.rows:
        fault = _fault_of_row(folder, row)
        if fault is None:
            one = _found_of_row(folder, row, patient)
            one = replace(one, entry=more_columns.with_values(one.entry, row, groups))
            # The same file twice, even through another path or a link, or two files with the same stored name.
            for key in (one.path.resolve(), one.entry.image.split("/", 2)[2]):
                if key in line_of:
                    fault = f"image {row['image']!r} is already on line {line_of[key]}"
                line_of.setdefault(key, line)
            found.append(one)
        if fault is not None:
            faults.append(f"  line {line}: {fault}")
    if faults:
        listing = "\n".join(first(faults))
        raise UserError(f"{table} has {counted(len(faults), 'wrong row')}:\n{listing}\nFix or remove them.")
    if not found:
        raise UserError(f"{table} lists no image")
    return found


def remarks(folder: Path) -> list[str]:
    """Return what the user should know about labels.csv: the columns that are not used, and why."""
    if not (folder / LIST).is_file():
        return []
    unused = more_columns.unused(_table(folder))
    return [f"columns of {LIST} that are not used: {', '.join(unused)}"] if unused else []


def names_home(folder: str) -> bool:
    """Return whether a path, as the user wrote it, names a home directory, and so perhaps a person."""
    path, home = PurePath(folder), Path.home()
    if path.is_absolute():
        return path.is_relative_to(home) or bool(_HOMES.match(folder))
    return bool(_HOMES.match(folder)) or (".." in path.parts and home.name in path.parts)


def copy(found: Sequence[Found], folder: Path) -> list[Entry]:
    """Copy the images to `folder` under the names of their entries, on all available cores.

    They are not linked: with `cache.type hardlink` DVC would move a linked file into its cache and make it read-only,
    and with it the user's own file (or the file in Kaggle's cache).

    Returns:
        The entries in the order of `found`, with the hash of each file.

    Raises:
        UserError: a file cannot be read.

    """

    def copied(one: Found) -> Entry:
        target = folder / one.entry.image
        target.parent.mkdir(parents=True, exist_ok=True)
        seen = hashlib.sha256()
        with target.open("wb") as file:
            for piece in _pieces(one.path):
                seen.update(piece)
                file.write(piece)
        return replace(one.entry, sha256=seen.hexdigest())

    return list(parallel.each(copied, found, "copy"))


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces, so that its size does not decide about memory."""
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _table(folder: Path) -> tables.Table:
    path = folder / LIST
    return tables.parse(path.read_bytes(), str(path), COLUMNS, COLUMNS[:2], ours=False)


def _fault_of_row(folder: Path, row: dict[str, str]) -> str | None:
    if None in row or None in row.values():
        return "has more or fewer fields than the header"
    if not row["image"]:
        return "image is empty"
    if row["label"].strip() not in LABELS:
        return f"label is {row['label']!r}; allowed are 0 (healthy) and 1 (cancer)"
    if "split" in row and row["split"].strip() not in SPLITS:
        return f"split is {row['split']!r}; allowed are {', '.join(SPLITS)}"
    if fault := more_columns.fault(row):
        return fault
    fault = _fault_of(folder / row["image"])
    return None if fault is None else f"{row['image']} {fault}"


def _found_of_row(folder: Path, row: dict[str, str], patient: str) -> Found:
    path = folder / row["image"]
    split = row.get("split", "").strip()
    name = f"{split or SPLITS[0]}/{row['label'].strip()}/{_stored_name(folder, row['image'])}"
    who = row["patient"].strip() if "patient" in row else patient_of(patient, name)
    return Found(path, Entry(name, int(row["label"]), split, who, ""))


def _stored_name(folder: Path, image: str) -> str:
    """Return the path below the class folder for an image of labels.csv: its original path, to keep names unique.

    Paths outside the folder are converted: `../x.png` becomes `_/x.png`, `/scans/x.png` becomes `scans/x.png`.
    """
    path = PurePath(os.path.normpath(image))
    if path.is_relative_to(folder.absolute()):
        path = path.relative_to(folder.absolute())
    return "/".join("_" if part == ".." else part for part in path.parts if part != path.anchor)


def _fault_of(path: Path) -> str | None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    try:
        if path.is_file():
            wanted = f"is none of {' '.join(scan_files.SUFFIXES)}, nor a DICOM file without a suffix"
            return None if scan_files.is_scan(path) else wanted
        if path.exists():
            return "is not a regular file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "leads nowhere (a broken link)" if path.is_symlink() else "does not exist"


def first(faults: Sequence[str]) -> list[str]:
    """Return the first faults, and the number of the others."""
    more = len(faults) - LISTED
    return [*faults[:LISTED], *([f"and {more} more"] if more > 0 else [])]


def _is_data(name: str) -> bool:
    return folders.is_visible(name) and name not in _NOT_DATA


def _only_folder(folder: Path) -> Path | None:
    """Return the only folder in `folder` if it wraps the whole tree, as in many archives; otherwise None."""
    inside = [path for path in folder.iterdir() if _is_data(path.name) and path.is_dir()]
    return inside[0] if len(inside) == 1 and (inside[0] / SPLITS[0]).is_dir() else None


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder; links to folders are followed.

    Raises:
        UserError: a folder cannot be entered, or is below `folder` more than once: its images would have two labels or
            be in two splits.

    """
    inside = folders.walk(folder, _is_data)
    faults = [f"{path} {reason}" for path, reason in inside.missed]
    faults += [f"{path} is the same folder as {before}" for path, before in inside.repeated]
    if faults:
        raise UserError("; ".join(first(faults)))
    return inside.files
