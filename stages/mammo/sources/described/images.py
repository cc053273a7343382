"""The image files of a described set: found by a template or by their headers, checked for what they are."""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from mammo.core import parallel
from mammo.core.set_description import FIELD, Images
from mammo.core.wording import counted
from mammo.imaging import header_values, scan_files
from mammo.imaging.images import UnreadableError
from mammo.sources.described.findings import Findings, Row, examples, places
from mammo.sources.described.joins import as_whole
from mammo.sources.own import files_below

HALF = "finish the download, or set data.on_missing: leave_out to go on without them"


@dataclass
class Disk:
    """The files below the folder of a set, and what their headers say."""

    folder: Path
    files: list[str]
    """Paths of the image files below the folder, sorted, with forward slashes."""
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Header of each DICOM file that was read, by path."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why a file cannot be read, by path."""

    def __post_init__(self) -> None:
        self.present = set(self.files)

    def read_headers(self, paths: Iterable[str]) -> None:
        """Read the headers of the DICOM files among `paths`, on all available cores."""
        unread = [name for name in paths if name not in self.headers and name not in self.unreadable]
        for name, header, reason in parallel.each(partial(_header, self.folder), unread, "headers"):
            if reason:
                self.unreadable[name] = reason
            else:
                self.headers[name] = header

    def header(self, path: str, name: str) -> str:
        """Return what the header of a file says; empty if it says nothing or is none of DICOM."""
        return self.headers.get(path, {}).get(name, "")


def on_disk(folder: Path) -> Disk:
    """Return the image files below a folder; hidden files and folders are ignored.

    Raises:
        UserError: a folder cannot be read, or is a link to a folder around it.

    """
    found = (path.relative_to(folder).as_posix() for path in files_below(folder))
    return Disk(folder, sorted(name for name in found if PurePosixPath(name).suffix.lower() in scan_files.SUFFIXES))


def _header(folder: Path, name: str) -> tuple[str, dict[str, str], str]:
    path = folder / name
    try:
        if path.suffix.lower() in scan_files.DICOM_SUFFIXES:
            return name, header_values.read(path), ""
        reason = "is empty (0 bytes)" if path.stat().st_size == 0 else ""
        return name, {}, reason
    except UnreadableError as error:
        return name, {}, str(error)
    except OSError as error:
        return name, {}, f"cannot be opened: {error.strerror}"


def find(
    rows: Sequence[Row], images: Images, disk: Disk, leave_out: bool, findings: Findings
) -> Iterator[tuple[Row, str]]:
    """Yield each row with its image files, as paths below the folder; rows without a file are named.

    Unless missing files are left out, a row without one is yielded with what was looked for.

    Args:
        rows: of the joined tables.
        images: how files belong to rows.
        disk: the files.
        leave_out: whether missing and unreadable files are left out; otherwise they are faults.
        findings: receives what does not fit.

    """
    by_row = _matched(rows, images, disk) if images.match else _templated(rows, images, disk, findings)
    missing = [row for row, names in by_row if not names]
    if missing:
        _name_missing(missing, len(rows), images, disk, leave_out, findings)
    _count(by_row, images, findings)
    named = {name for _, names in by_row for name in names}
    disk.read_headers(sorted(named))
    bad = {name: reason for name, reason in disk.unreadable.items() if name in named}
    for name, reason in sorted(bad.items()):
        remedy = "left out" if leave_out else f"fetch it again, or {HALF.split(', or ')[1]}"
        findings.add(f"{name} {reason}: {remedy}", not leave_out)
    _name_others(named, images, disk, findings)
    for row, names in by_row:
        for name in names:
            if name not in bad:
                yield row, name
        if not names and not leave_out:
            yield row, expected(images, row)


def expected(images: Images, row: Row) -> str:
    """Return the path that a template makes of a row, or the header values that its files must have."""
    if images.match:
        return ", ".join(f"{name} {row.cells[column]!r}" for name, column in images.match.items())
    filled = FIELD.sub(lambda match: row.cells[match[1]], images.path)
    return filled.replace("\\", "/").removeprefix("./")


def _templated(rows: Sequence[Row], images: Images, disk: Disk, findings: Findings) -> list[tuple[Row, list[str]]]:
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in disk.files:
        by_folder[name.rpartition("/")[0]].append(name)
    empty, outside, found = [], [], []
    for row in rows:
        path = expected(images, row)
        if any(not row.cells[column] for column in FIELD.findall(images.path)):
            empty.append(row)
            continue
        if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
            outside.append(row)
            continue
        names = [path] if path in disk.present else []
        if "*" in images.path:
            names = _fitting(images.path, row, disk, by_folder)
            if len(names) > 1:
                findings.fault(
                    f"{row.place}: {counted(len(names), 'file')} fit {path!r} ({examples(names)}): make images.path "
                    "in the description more exact"
                )
        found.append((row, names))
    columns = " or ".join(map(repr, FIELD.findall(images.path)))
    if empty:
        findings.fault(f"column {columns} is empty in {places(empty)}: no image can be found; fill or filter the rows")
    if outside:
        findings.fault(f"column {columns} leads out of the folder in {places(outside)}: correct the cells")
    return found


def _fitting(template: str, row: Row, disk: Disk, by_folder: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the files that fit a template with `*`; cells are taken literally."""
    parts = re.split(r"(\*|\{[^{}]*\})", template)
    exact = (re.escape(row.cells[part[1:-1]] if FIELD.fullmatch(part) else part) for part in parts)
    pattern = "".join(".*" if part == "*" else text for part, text in zip(parts, exact, strict=True))
    folder, _, name = template.rpartition("/")
    fixed = not any(mark in folder for mark in "*{")
    candidates = by_folder.get(folder, []) if fixed and "*" in name else disk.files
    return [one for one in candidates if re.fullmatch(pattern, one)]


def _matched(rows: Sequence[Row], images: Images, disk: Disk) -> list[tuple[Row, list[str]]]:
    disk.read_headers(disk.files)
    names = list(images.match)
    by_key: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in disk.files:
        if not _is_other(name, images, disk):
            by_key[tuple(as_whole(disk.header(name, one)) for one in names)].append(name)
    keys = [tuple(as_whole(row.cells[column]) for column in images.match.values()) for row in rows]
    return [(row, by_key.get(key, []) if all(key) else []) for row, key in zip(rows, keys, strict=True)]


def _is_other(name: str, images: Images, disk: Disk) -> bool:
    """Whether a file is a crop, a mask or the like by its path or series description."""
    described = disk.header(name, "series_description") or PurePosixPath(name).name
    return bool(re.search(images.other, described) or re.search(images.other, name.rpartition("/")[0]))


def _name_missing(
    missing: Sequence[Row], of: int, images: Images, disk: Disk, leave_out: bool, findings: Findings
) -> None:
    first = expected(images, missing[0])
    what = f"{first}, {missing[0].place}, is the first"
    if len(missing) == of:
        wanted = PurePosixPath(first).name
        elsewhere = fnmatch.filter(disk.files, f"*/{wanted}") if not images.match else []
        hint = f"{wanted} is at {elsewhere[0]}: pass the folder above, or correct images.path" if elsewhere else ""
        held = f"the folder holds {counted(len(disk.files), 'other image file')}" if disk.files else "there is no image"
        remedy = hint or "download the images, or pass the folder that holds them beside the tables"
        findings.fault(f"the images are missing: none of {counted(of, 'row')} has one ({what}), {held}; {remedy}")
        return
    how = "left out" if leave_out else HALF
    lack = "match the header of no file" if images.match else "name a file that is not there"
    findings.add(f"{len(missing):,} of {counted(of, 'row')} {lack} ({what}): {how}", not leave_out)


def _count(by_row: Sequence[tuple[Row, list[str]]], images: Images, findings: Findings) -> None:
    """Compare the number of files of a row with the column that gives it."""
    if not images.number:
        return
    wrong = [
        (row, len(names)) for row, names in by_row if names and as_whole(row.cells[images.number]) != str(len(names))
    ]
    if wrong:
        row, number = wrong[0]
        findings.note(
            f"column {images.number!r} gives another number of images than there are files in "
            f"{places([row for row, _ in wrong])} ({row.cells[images.number]} and {number}): "
            "is the download complete?"
        )


def _name_others(named: set[str], images: Images, disk: Disk, findings: Findings) -> None:
    """Name crops and masks among the images, and the files that no row names."""
    for name in sorted(named):
        if _is_other(name, images, disk):
            described = disk.header(name, "series_description")
            findings.fault(
                f"{name} is no whole mammogram by its {'header: ' + repr(described) if described else 'path'}: "
                "let images.path or images.match in the description name the full images"
            )
    unnamed = [name for name in disk.files if name not in named]
    disk.read_headers(unnamed)  # the header tells a crop from another mammogram
    others = [name for name in unnamed if _is_other(name, images, disk)]
    rest = [name for name in unnamed if name not in set(others)]
    if others:
        findings.note(f"{counted(len(others), 'crop or mask', 'crops or masks')} left out: {examples(others)}")
    if rest:
        findings.note(f"{counted(len(rest), 'image file')} that no row names, left out: {examples(rest)}")
