"""`cv/lesions.py`: lesions drawn into healthy mammograms, and a fold whose network learns them first."""

import shutil
import subprocess
import sys
from pathlib import Path

from mammo.core import dataset, files, predictions
from mammo.core.dataset import Dataset, Entry
from mammo.sources.phantom import lesions as phantom

import cv2
import lesions
import numpy as np
import pytest
from miniature import ROOT
from test_folds import FIVE, assign, entries, recipe, resolved, small, variant, write_learnable

HEIGHT, WIDTH = 160, 96  # a pixel is a millimetre


def breast() -> np.ndarray:
    """A grey half-ellipse at the left edge, black beside it."""
    random = np.random.default_rng(3)
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(image, (0, HEIGHT // 2), (80, 70), 0, 0, 360, 1, -1)
    return image * random.integers(80, 100, image.shape).astype(np.uint8)


def test_copies_differ_only_where_a_mass_lies_and_stay_black_beside_the_breast() -> None:
    image, benign = breast(), 0
    for name in map(str, range(40)):
        without, cancer = (copy.astype(int) for copy in lesions.copies(image, 1, name))
        assert not cancer[image == 0].any() and not without[image == 0].any()
        assert (cancer >= image).all() and (cancer - image).max() > 8
        changed = np.argwhere(cancer > image)
        assert (changed.max(0) - changed.min(0)).max() <= 2 * 32, "pixels of a millimetre: the longest spicules"
        if (without != image).any():
            benign += 1
            assert (without != cancer).any()
    assert 10 <= benign <= 30, "in about half of the copies without cancer"


def test_a_benign_mass_is_as_bright_as_the_cancer_in_its_place() -> None:
    image = np.full((HEIGHT, WIDTH), 90, np.uint8)
    for number in range(10):
        cancer = phantom.spiculated_mass(np.random.default_rng(number), WIDTH / 2, HEIGHT / 2)
        sums = [
            int(lesions.added(image, one, 0.3).sum()) - 90 * image.size for one in (cancer, phantom.benign_mass(cancer))
        ]
        assert sums[0] == pytest.approx(sums[1], rel=0.03)


def test_where_and_what_is_drawn_depends_on_seed_and_image_alone() -> None:
    def made(seed: int, name: str) -> bytes:
        return b"".join(copy.tobytes() for copy in lesions.copies(breast(), seed, name))

    assert made(1, "a") == made(1, "a") and len({made(1, "a"), made(1, "b"), made(2, "a")}) == 3


def test_only_healthy_images_of_patients_who_are_learned_from_are_drawn_into(tmp_path: Path) -> None:
    placed = assign(entries(60), 0, FIVE)
    data = Dataset(np.stack([breast()] * len(placed)), placed)
    lesions.draw(data, tmp_path, 1)
    drawn = dataset.load(tmp_path)
    healthy = [entry for split in ("train", "valid") for entry in placed if (entry.split, entry.label) == (split, 0)]
    pairs = [(f"{label}/{entry.image}", label, entry.split, entry.patient) for entry in healthy for label in (0, 1)]
    assert [(one.image, one.label, one.split, one.patient) for one in drawn.entries] == pairs
    assert all((drawn.images[place] != breast()).any() for place in range(1, len(pairs), 2)), "cancers"


@pytest.mark.proof
def test_a_fold_learns_drawn_lesions_first(tmp_path: Path) -> None:
    every: list[Entry] = entries(60)
    write_learnable(tmp_path / "raw", every)
    train = {"network": "compact", "epochs": 3, "learning_rate": 0.01}
    recipe(tmp_path / "recipes", "quick", preprocess={"size": [48, 48]}, train=train)
    small(tmp_path / "cv/params.yaml", {"one": variant("shortcut", recipe="quick", seeds=[2, 1])})
    shutil.copy(ROOT / "params.yaml", tmp_path)
    resolved(tmp_path / "cv")
    command = [sys.executable, ROOT / "cv/lesions.py", "../raw", "data/settings/one.json", "lesions/one/0"]
    done = subprocess.run(command, cwd=tmp_path / "cv", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "cv/lesions/one/0"
    rows = predictions.read(out / "predictions.csv")
    assert {row.image for row in rows} == {entry.image for entry in assign(every, 0, FIVE) if entry.split == "test"}
    assert {row.seeds for row in rows} == {1}
    first = files.read_csv(out / "drawn.csv", ("epoch", "split", "roc_auc"))
    assert max(int(row["epoch"]) for row in first) == lesions.EPOCHS
    assert not (tmp_path / "cv/data/state/lesions-one-0").exists()
