"""A described set for the stage download: its images, what to remark, and where it comes from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mammo.core import files, parallel, set_description
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.set_description import Provenance
from mammo.core.settings import Data
from mammo.sources.described.understanding import refusal, understand
from mammo.sources.own import Found


def read(name: str, folder: Path, data: Data) -> tuple[list[Found], list[str], Provenance]:
    """Return the images of the set `name` in a folder, remarks on them, and the set's provenance.

    Raises:
        UserError: there is no such description or folder, or something does not fit; each fault is a line.

    """
    description = set_description.read(name)
    understood = understand(folder, description, data.patient, data.on_missing == "leave_out")
    if understood.findings.faults:
        raise UserError(refusal(name, understood.findings.faults))
    return understood.found, [*description.notes, *understood.findings.notes], description.provenance(name)


def left_in_place(found: Sequence[Found]) -> list[Entry]:
    """Return the entries with the size and hash of each file, which is read once and stays where it is.

    Raises:
        UserError: a file cannot be read.

    """

    def measured(one: Found) -> Entry:
        try:
            return replace(one.entry, sha256=files.sha256(one.path), bytes=one.path.stat().st_size)
        except OSError as error:
            raise UserError(f"{one.path} cannot be read: {error.strerror}") from error

    return list(parallel.each(measured, found, "index"))
