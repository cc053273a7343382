"""Images of the benchmark: mammograms from the folder in MAMMOGRAMS if it is set, else phantoms."""

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
SIZE = 640  # pixels; phantoms are saved like the Kaggle set: JPEG of this size with three equal channels


def tree(work: Path, params: Params) -> tuple[Path, str]:
    """Return a folder `{train,valid,test}/{0,1}/*.jpg` and its description; phantoms are generated in `work`."""
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
    """Create `target` like the output of the stage download, with links to `number` images of `folder`.

    Images are taken evenly from the set; if it has too few, they are repeated under other patients.
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
    """Write params.yaml with the values in `changed`, by section, to `folder`; return the folder."""
    content = params.model_dump()
    for section, values in changed.items():
        content[section].update(values)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
