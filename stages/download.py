"""Put a set of mammograms into data/raw, as delivered, with an index: phantoms, a described set or own images."""

import os
import shlex
from pathlib import Path

from mammo.core import dataset, files, parallel, pseudonyms, set_description, settings, stage
from mammo.core.errors import UserError
from mammo.core.set_description import Provenance
from mammo.core.settings import Data
from mammo.core.wording import counted
from mammo.sources import described, own, phantom

LINKED = "data/own/linked"  # ignored by git


def main(raw: Path) -> None:
    """Put the images of `data.source` and index.csv into RAW; the user's own images are in `data.folder`.

    With `data.in_place` the images stay where they are, and RAW holds index.csv alone.
    """
    data = settings.read().data
    folder = Path(data.folder)  # read here: on the command line, a shell would run a name such as $(reboot)
    remarks: list[str] = []
    provenance: Provenance | None = None
    if data.source == "kaggle":
        found, provenance = from_kaggle(data)
    elif data.source == "folder":
        keep_apart(folder, raw)
        found = own.own(folder, data.patient)
        remarks = own.remarks(folder)
    elif data.source == "set":
        keep_apart(folder, raw)
        found, remarks, provenance = described.read(data.set, folder, data)
    with files.written(raw) as target:
        target.mkdir()
        if data.source == "phantom":
            entries = phantom.generate(data.phantom, target, parallel.cores())
        else:
            entries = described.left_in_place(found) if data.in_place else own.copy(found, target)
        dataset.write_index(target, sorted(entries, key=lambda entry: entry.image))
        if remarks:
            dataset.write_remarks(target, remarks)
        if data.uses_pseudonyms:
            pseudonyms.write(target, pseudonyms.assign(sorted(entries, key=lambda entry: entry.image)))
        if provenance:
            set_description.write_provenance(target, provenance)
    where = f"left in {folder}, index in" if data.in_place else "in"
    patients = len({entry.patient for entry in entries if entry.patient})
    print(f"download: {counted(len(entries), 'image')} of {counted(patients, 'known patient')} {where} {raw}")
    if provenance:
        print(f"download: licence of {provenance.title}: {provenance.licence}; weights {provenance.weights}")
    for remark in remarks:
        print(f"download: {remark}")
    if data.source == "folder" and own.names_home(data.folder):
        print(
            "download: data.folder names a home directory, and git would publish it in params.yaml and dvc.lock. "
            f"Before you commit: ln -s {shlex.quote(str(folder.resolve()))} {LINKED}, and set data.folder: {LINKED}"
        )
    if unknown := sum(not entry.patient for entry in entries):
        print(
            f"download: {unknown:,} of {counted(len(entries), 'image')} have no patient, so leakage cannot be checked. "
            f"{dataset.NAME_THE_PATIENTS}; or set audit.on_unknown_patients: warn"
        )


def from_kaggle(data: Data) -> tuple[list[own.Found], Provenance]:
    """Return the images of a Kaggle set, read by its description, from kagglehub's cache; download them if necessary.

    Raises:
        UserError: the set cannot be downloaded, or is not laid out as `{train,valid,test}/{0,1}/`.

    """
    from mammo.sources import kaggle  # here, since importing kagglehub takes half a second

    description = set_description.read(data.source)
    folder = kaggle.fetch(data.kaggle)
    try:
        return own.tree(folder, data.patient), description.provenance(data.source)
    except UserError as error:
        remedy = f"if the downloaded copy is damaged, delete {folder} and run again"
        raise UserError(f"the Kaggle set {data.kaggle} cannot be used: {error}; {remedy}") from error


def keep_apart(folder: Path, raw: Path) -> None:
    """Refuse a folder of own images that is inside RAW or contains it, since RAW is replaced as a whole.

    Raises:
        UserError: one of the folders contains the other.

    """
    own_images, target = Path(os.path.realpath(folder)), raw.resolve()  # Path.resolve raises an error for a loop
    if own_images.is_relative_to(target) or target.is_relative_to(own_images):
        raise UserError(f"{folder} (data.folder) and {raw}, which this stage replaces, must not contain each other")


if __name__ == "__main__":
    stage.run(main)
