"""The images that are measured on: real ones where MAMMOGRAMS names their folder, phantoms otherwise."""

import os
import shutil
import sys
from pathlib import Path

import cv2
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stages"))

from mammo.core import files, parallel, settings
from mammo.core.dataset import Entry, write_index
from mammo.sources import own as sources
from mammo.sources.phantom import generate

ROOT = Path(__file__).resolve().parent.parent

PATIENT = r"^(\d+)_"
SIZE = 640  # pixels; phantoms are saved as the Kaggle set is: JPEG of this size in three equal channels
PATIENTS = 400  # 1,200 phantoms


def tree(work: Path) -> tuple[Path, str]:
    """A folder `{train,valid,test}/{0,1}/*.jpg` and what it holds, in words."""
    if os.environ.get("MAMMOGRAMS"):
        return Path(os.environ["MAMMOGRAMS"]).resolve(), "real mammograms (640×640 JPEG)"
    target = work / "phantoms"
    if not target.exists():
        drawn = work / "drawn"
        phantoms = settings.read(ROOT / "params.yaml").data.phantom
        generate(phantoms.model_copy(update={"size": SIZE, "patients": PATIENTS}), drawn, parallel.cores())
        shutil.rmtree(drawn / "masks")
        for path in sorted(drawn.rglob("*.png")):
            jpeg = (target / path.relative_to(drawn)).with_suffix(".jpg")
            jpeg.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(jpeg), cv2.imread(str(path)))
        shutil.rmtree(drawn)
    return target, "phantoms (640×640 JPEG)"


def raw(folder: Path, target: Path, number: int) -> list[Entry]:
    """`target` as the stage download leaves it, holding `number` images of `folder` as links.

    Fewer are spread evenly over the set; where the set has fewer, its images come again under other patients.
    """
    found = sources.tree(folder, PATIENT)
    step = max(len(found) / number, 1)
    entries = []
    for position in range(number):
        again, place = divmod(int(position * step), len(found))
        one = found[place].entry
        patient = f"{one.patient}{again:02d}" if again else one.patient
        name = f"{one.split}/{one.label}/{patient}_{Path(one.image).name.split('_', 1)[1]}"
        link = target / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(found[place].path.resolve())
        entries.append(Entry(name, one.label, one.split, patient, files.sha256(link)))
    entries.sort(key=lambda entry: entry.image)
    write_index(target, entries)
    return entries


def params(target: Path, **changed: dict[str, object]) -> Path:
    """The project's params.yaml with some values of some sections changed, written to the folder `target`."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in changed.items():
        content[section].update(values)
    target.mkdir(parents=True, exist_ok=True)
    (target / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return target / "params.yaml"
