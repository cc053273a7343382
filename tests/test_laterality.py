"""The breast that an image shows: from its table, or found from the picture, which then is said."""

import csv
import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from mammo.core import dataset
from mammo.core.dataset import Entry
from mammo.core.settings import Canonical
from mammo.imaging import images, laterality

import cv2
import numpy as np
import pytest
from conftest import run_stage, write_params
from miniature import ROOT

SIZE = (96, 96)


def mammogram(side: str, number: int = 0) -> np.ndarray:
    """A breast with its chest wall where that side has it, on 120 × 120 pixels."""
    y, x = np.mgrid[:120, :120].astype(float)
    image = np.where((x / (50 + number % 7)) ** 2 + ((y - 60) / 40) ** 2 <= 1, 120, 4).astype(np.uint8)
    image += np.random.default_rng(number).integers(0, 4, image.shape, dtype=np.uint8)
    return np.ascontiguousarray(image[:, ::-1]) if side == "R" else image


def entries(sides: str) -> list[Entry]:
    return [
        Entry(f"train/0/{number}_x.png", 0, "train", str(number), "", laterality="") for number in range(len(sides))
    ]


@pytest.mark.parametrize("inverted", [False, True])
def test_the_chest_wall_is_on_the_side_of_the_breast(inverted: bool) -> None:
    for side in "LR":
        image = 255 - mammogram(side) if inverted else mammogram(side)
        assert laterality.in_picture(image) == side
    assert laterality.in_picture(np.full((120, 120), 3, np.uint8)) == ""


def test_a_glance_tells_a_clear_side_and_leaves_the_others_to_a_closer_look() -> None:
    right = mammogram("R")
    for image in (right, 255 - right, cv2.resize(right, (224, 224))):
        assert laterality.at_a_glance([image, np.ascontiguousarray(image[:, ::-1])]) == ["R", "L"]
    both_edges, neither = np.maximum(right, right[:, ::-1]), np.roll(right, -60, axis=1)
    assert laterality.at_a_glance([both_edges, neither, right]) == ["", "", "R"]
    marked = mammogram("L")
    marked[10:20, 108:118] = 250  # text at the edge of the nipple's side
    assert (laterality.at_a_glance([marked]), laterality.in_picture(marked)) == ([""], "L")


def test_only_what_is_unknown_is_taken_from_the_picture_and_that_is_said() -> None:
    sides = "LRLRLRLRLRLRL"
    known = entries(sides)
    known[0] = replace(known[0], laterality="R", laterality_from="table")  # the table counts, whatever the picture says
    known[1] = replace(known[1], laterality="B", laterality_from="table")
    pictures = [mammogram(side, number) for number, side in enumerate(sides)]
    pictures[12] = np.full((120, 120), 3, np.uint8)
    completed, remarks = laterality.completed(known, lambda position: pictures[position])
    assert "".join(entry.laterality or "?" for entry in completed) == "RB" + sides[2:12] + "?"
    assert Counter(entry.laterality_from for entry in completed) == {"table": 2, "picture": 10, "": 1}
    assert remarks == [
        "laterality of 10 of 13 images was found from the picture, by the side of the chest wall",
        "laterality of 1 image is unknown: no breast was found in the picture; these images are in no score per breast "
        "or exam",
    ]


def test_a_mirrored_set_tells_no_side() -> None:
    """As the phantoms are drawn, and sets that somebody else has made canonical."""
    known = entries("L" * 40)
    completed, remarks = laterality.completed(known, lambda position: mammogram("L", position))
    assert completed == known
    assert len(remarks) == 1
    assert remarks[0].startswith("laterality is unknown for 40 images: nearly all chest walls are on one side")


def test_where_all_sides_are_known_no_picture_is_looked_at() -> None:
    known = [replace(entry, laterality="L", laterality_from="table") for entry in entries("LL")]
    assert laterality.completed(known, lambda position: pytest.fail("looked at")) == (known, [])


@pytest.mark.parametrize("mirroring", [False, True])
def test_preprocess_finds_sides_before_it_mirrors_and_says_so(tmp_path: Path, mirroring: bool) -> None:
    raw, written = tmp_path / "data/raw", []
    for number in range(24):
        side, split = "LR"[number // 2 % 2], ("train", "valid", "test")[number // 4 % 3]
        name = f"{split}/{number % 2}/{number}_{side}.png"
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(raw / name), mammogram(side, number))
        written.append(Entry(name, number % 2, split, str(number), "0" * 64))
    dataset.write_index(raw, written)
    write_params(
        tmp_path,
        split={"by": "folder"},
        preprocess={"size": list(SIZE), "canonical": Canonical(chest_wall_left=mirroring).model_dump()},
    )
    done = run_stage("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    data = dataset.load(tmp_path / "data/prepared")
    for entry, image in zip(data.entries, data.images, strict=True):
        assert (entry.laterality, entry.laterality_from) == (Path(entry.image).stem[-1], "picture")
        wall_left = image[:, :10].mean() > image[:, -10:].mean()
        assert wall_left == (mirroring or entry.laterality == "L")
    said = "laterality of 24 of 24 images was found from the picture, by the side of the chest wall"
    assert f"preprocess: {said}\n" in done.stdout
    assert json.loads((tmp_path / "data/prepared/about.json").read_text())["remarks"] == [said]


def test_an_index_with_another_laterality_is_refused(tmp_path: Path) -> None:
    dataset.write_index(tmp_path, [Entry("a.png", 0, "test", "a", "", laterality="X")])
    with pytest.raises(dataset.UserError, match=r"index.csv: laterality of a.png is 'X'; allowed are L, R and B"):
        dataset.read_index(tmp_path)


@pytest.mark.proof
def test_sides_of_200_real_images_looked_at_are_right(mammograms: Path) -> None:
    """The 200 were drawn at random, and labelled by where their chest wall is, or by their burned-in text."""
    with (ROOT / "tests/labels/laterality.csv").open() as file:
        labelled = {row["image"]: row["laterality"] for row in csv.DictReader(file)}
    paths = {path.name: path for path in mammograms.rglob("*.jpg")}
    wrong = [
        name for name, side in labelled.items() if laterality.in_picture(images.read(paths[name], (224, 224))) != side
    ]
    print(f"{len(wrong)} of {len(labelled)} sides are wrong")
    assert len(labelled) == 200
    assert wrong == []


@pytest.mark.proof
def test_nearly_all_healthy_women_have_both_breasts_and_those_with_cancer_one(mammograms: Path) -> None:
    """Known of this set from its source; sides at random would give a healthy woman both in about 87 of 100."""
    sides, ill = defaultdict(set), defaultdict(bool)
    for path in sorted(mammograms.rglob("*.jpg")):
        patient = path.name.split("_")[0]
        sides[patient].add(laterality.in_picture(images.read(path, (224, 224))))
        ill[patient] |= path.parent.name == "1"
    counts = Counter((ill[patient], len(each - {""})) for patient, each in sides.items())
    print(counts)
    assert counts[False, 2] >= 0.99 * (counts[False, 1] + counts[False, 2])
    assert counts[True, 1] >= 0.95 * (counts[True, 1] + counts[True, 2])
