"""`cv/appearances.py`: a row of the table by appearance of its images, and its misses; and docs/detector.md."""

import re
import sys
from pathlib import Path

from mammo.core import dataset, files, predictions
from mammo.core.dataset import Entry
from mammo.core.predictions import Prediction
from mammo.scoring import with_interval

import cv2
import numpy as np
import pytest
from documents import PAGES, block, shell
from miniature import ROOT, run
from sklearn.metrics import roc_auc_score

COMPARED = {
    "detector": block("In cross-validation") + block("Lesions drawn into healthy mammograms"),
    "cross-validation": block("Would more patients help?"),
}


@pytest.fixture
def rows(tmp_path: Path) -> list[Prediction]:
    """Predictions of 40 patients' images: a bright breast at the left edge, of every fourth black on white."""
    random = np.random.default_rng(1)
    entries, made = [], []
    for number in range(40):
        entry = Entry(f"train/{number % 2}/{number:02}.png", number % 2, "train", str(number), f"{number:064x}")
        image = np.zeros((224, 224), np.uint8)
        cv2.ellipse(image, (0, 112), (90, 100), 0, 0, 360, 150, -1)
        (tmp_path / "raw" / entry.image).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "raw" / entry.image), 255 - image if number % 4 < 2 else image)
        entries.append(entry)
        made.append(Prediction(entry.image, entry.patient, entry.label, float(random.random()), 0))
    dataset.write_index(tmp_path / "raw", entries)
    predictions.write(tmp_path / "row.csv", made)
    return made


def test_a_row_is_scored_by_appearance_and_its_misses_are_drawn(rows: list[Prediction], tmp_path: Path) -> None:
    output = run(tmp_path, sys.executable, str(ROOT / "cv/appearances.py"), "raw", "row.csv", "misses.png").stdout
    for level, chosen in (("yes", (0, 1)), ("no", (2, 3))):
        those = [row for number, row in enumerate(rows) if number % 4 in chosen]
        (line,) = re.findall(rf"^black on white +{level} +(.*)$", output, re.MULTILINE)
        auc = roc_auc_score([row.label for row in those], [row.probability for row in those])
        assert line.startswith(f"20 images,    10 cancers, ROC AUC {auc:.3f} (")
    assert re.search(r"^breast shown +L +40 images", output, re.MULTILINE)
    assert output.endswith("misses.png: the 10 cancers with the lowest probabilities\n")
    picture = cv2.imread(str(tmp_path / "misses.png"))
    assert picture.shape[1] > 1000 and picture.std() > 10


def test_a_table_of_another_set_is_refused_in_one_line(rows: list[Prediction], tmp_path: Path) -> None:
    predictions.write(tmp_path / "row.csv", [rows[0]._replace(image="other.png")])
    done = run(tmp_path, sys.executable, str(ROOT / "cv/appearances.py"), "raw", "row.csv", "misses.png", fails=True)
    assert done.stderr.endswith("raw lacks 1 image of the table, e.g. other.png: are they of another set?\n")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "misses.png").exists()


@pytest.mark.parametrize("name", COMPARED)
def test_the_changes_of_a_page_are_those_that_its_commands_print(name: str) -> None:
    printed = re.findall(r"^ROC AUC +0.*", shell(ROOT, COMPARED[name]), re.MULTILINE)
    page = PAGES[ROOT / f"docs/{name}.md"]
    said = re.findall(r"^mammo compare .* # (\S+) \((\S+ to \S+)\), p ([<=] \S+)$", page, re.MULTILINE)
    assert len(printed) == len(said) == len(COMPARED[name]) >= 2
    for line, (change, interval, p) in zip(printed, said, strict=True):
        assert re.search(
            rf"{re.escape(change)} +{re.escape(interval)} +{p.removeprefix('= ').replace('< ', '<')} ", line
        )


def test_the_table_of_the_page_is_that_of_cross_validation() -> None:
    rows = files.read_json(ROOT / "cv/metrics/cv.json")["rows"]
    page = PAGES[ROOT / "docs/detector.md"]
    for name, shown in (("shortcut", "brightness baseline"), ("finetuned", "`finetuned`, mean of three seeds")):
        scores = (rows[name][key] for key in ("roc_auc", "breast_roc_auc", "patient_roc_auc"))
        assert f"| {shown} | {' | '.join(with_interval(**score) for score in scores)} |" in page
        table = predictions.read(ROOT / f"cv/plots/{name}.csv")
        auc = roc_auc_score([row.label for row in table], [row.probability for row in table])
        assert auc == pytest.approx(rows[name]["roc_auc"]["value"])
