"""Proofs: labels flipped in a set, and how many of them cross-validation ranks first.

`MAMMOGRAMS=… pytest -m proof -s tests/test_label_errors_proof.py` prints a row of the table in docs/evidence.md per
set. Nothing is copied: labels are flipped in memory, before the patients are dealt out to the folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammo.core import dataset, parallel, predictions, recipes, settings, splits
from mammo.core.dataset import Entry
from mammo.core.predictions import Prediction
from mammo.learning import networks
from mammo.scoring import label_errors
from mammo.sources import own, phantom

import crossvalidation
import fitting
import numpy as np
import pytest
from conftest import ROOT
from crossvalidation import Folds, Trained
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

pytestmark = pytest.mark.proof

FOLDS = Folds(number=5, seed=1, valid=0.15)
FLIPPED = 0.05  # share of the images


def flipped(entries: Sequence[Entry]) -> set[str]:
    """Names of the images whose label is flipped; as many of each class as there are of it."""
    chosen = set()
    for label in (0, 1):
        images = [entry.image for entry in entries if entry.label == label]
        chosen |= set(splits.shuffled(images, 1, "flip")[: round(FLIPPED * len(images))])
    return chosen


def trained(recipe: str, **train: Any) -> Trained:
    """A recipe with other settings of the section `train`."""
    params = recipes.params(recipe, ROOT / "params.yaml", ROOT / "recipes")
    used = params.model_dump(include=set(recipes.SECTIONS))
    used["train"] |= train
    return Trained.model_validate({"seeds": [1], "patients": 1.0, **used})


def out_of_fold(raw: Path, recipe: Trained, wrong: set[str], folder: Path) -> list[Prediction]:
    """Predict every image by a network that never saw its patient, and learned from the labels as they are now."""
    networks.use_threads(recipe.train.threads)
    rows = []
    for fold in range(FOLDS.number):

        def assign(entries: Sequence[Entry], fold: int = fold) -> list[Entry]:
            now = [replace(entry, label=abs(entry.label - (entry.image in wrong))) for entry in entries]
            return crossvalidation.assign(now, fold, FOLDS)

        fitting.fit_and_predict(raw, recipe, assign, folder / "state" / str(fold), folder / str(fold))
        rows += predictions.read(folder / str(fold) / "predictions.csv")
    return rows


def found(name: str, rows: Sequence[Prediction], wrong: set[str]) -> Mapping[str, float]:
    """Print a row of the table; return its figures."""
    planted, labels = np.array([row.image in wrong for row in rows]), np.array([row.label for row in rows])
    chances = [row.probability for row in rows]
    ranking = label_errors.ranked(labels, chances)
    number = int(planted.sum())
    hits = int(planted[ranking.order[:number]].sum())
    suspected, caught = int(ranking.suspected.sum()), int(planted[ranking.suspected].sum())
    chance = number / len(rows)
    auc = roc_auc_score(abs(labels - planted), chances)
    print(
        f"\n| {name} | {len(rows):,} | {number} | {auc:.3f} | {hits} ({hits / number:.0%}) "
        f"| {hits / number / chance:.1f} | {suspected:,} | {caught} ({caught / number:.0%}) |",
        flush=True,
    )
    return {"number": number, "precision": hits / number, "suspected": suspected / len(rows), "caught": caught}


def test_flips_in_phantoms_come_several_times_more_often_than_by_chance(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    drawn = settings.read(ROOT / "params.yaml").data.phantom.model_copy(update={"occult": 0.0})
    entries = phantom.generate(drawn, raw, parallel.cores())
    dataset.write_index(raw, entries)
    wrong = flipped(entries)
    rows = out_of_fold(raw, trained("baseline", precision="float32", epochs=12), wrong, tmp_path)
    assert found("phantoms, none occult", rows, wrong)["precision"] > 3 * FLIPPED


def test_flips_in_real_mammograms_are_hardly_found_as_the_page_says(tmp_path: Path, mammograms: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    entries = own.copy(own.own(mammograms, settings.read(ROOT / "params.yaml").data.patient), raw)
    dataset.write_index(raw, entries)
    wrong = flipped(entries)
    result = found("real mammograms", out_of_fold(raw, trained("logistic", epochs=1), wrong, tmp_path), wrong)
    assert result["precision"] < 0.2
    suspected = binomtest(result["caught"], result["number"], result["suspected"])
    assert suspected.proportion_ci(0.95).high > result["suspected"], "not fewer than by chance"
