"""The images that are measured on: real ones where MAMMOGRAMS names their folder, phantoms otherwise."""

import os
import shutil
import sys
from pathlib import Path

import cv2
import yaml
from measure import ROOT

sys.path.insert(0, str(ROOT / "stages"))

from mammo.core import files, parallel
from mammo.core.dataset import Entry, write_index
from mammo.core.settings import Params
from mammo.sources import own
from mammo.sources.phantom import generate

PATIENT = r"^(\d+)_"
SIZE = 640  # pixels; phantoms are saved as the Kaggle set is: JPEG of this size in three equal channels


def tree(work: Path, params: Params) -> tuple[Path, str]:
    """Return a folder `{train,valid,test}/{0,1}/*.jpg`, and what it holds in words; phantoms are drawn below `work`."""
    if os.environ.get("MAMMOGRAMS"):
        return Path(os.environ["MAMMOGRAMS"]).resolve(), f"real mammograms ({SIZE}×{SIZE} JPEG)"
    target = work / "phantoms"
    if not target.exists():
        drawn = work / "drawn"
        generate(params.data.phantom.model_copy(update={"size": SIZE}), drawn, parallel.cores())
        shutil.rmtree(drawn / "masks")
        for path in sorted(drawn.rglob("*.png")):
            jpeg = (target / path.relative_to(drawn)).with_suffix(".jpg")
            jpeg.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(jpeg), cv2.imread(str(path)))
        shutil.rmtree(drawn)
    return target, f"phantoms ({SIZE}×{SIZE} JPEG)"


def raw(folder: Path, target: Path, number: int) -> list[Entry]:
    """Make `target` as the stage download leaves it, with `number` images of `folder` as links.

    Fewer are taken evenly over the set; where the set has fewer, its images are repeated under other patients.
    """
    found = own.tree(folder, PATIENT)
    step = max(len(found) / number, 1)
    entries = []
    for position in range(number):
        repetition, place = divmod(int(position * step), len(found))
        one = found[place].entry
        patient = f"{one.patient}{repetition:02d}" if repetition else one.patient
        name = f"{one.split}/{one.label}/{patient}_{Path(one.image).name.split('_', 1)[1]}"
        link = target / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(found[place].path.resolve())
        entries.append(Entry(name, one.label, one.split, patient, files.sha256(link)))
    entries.sort(key=lambda entry: entry.image)
    write_index(target, entries)
    return entries


def folder_with(params: Params, folder: Path, **changed: dict[str, object]) -> Path:
    """Write params.yaml, with some values of some sections `changed`, to `folder`, and return the folder."""
    content = params.model_dump()
    for section, values in changed.items():
        content[section].update(values)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
